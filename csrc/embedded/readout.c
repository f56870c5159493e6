/* ---- read-out: the last layer is no state, but W s + b of the one below it ---- */

/* Puts there what it reads. */
static void net_read(net_memory *net) {
    size_t j;
    for (j = 0; j < NET_OUTPUTS; j++) {
        const net_sum field = net_field(net, NET_LAST, j);
#if NET_INT
        net->score[j] = field;
#endif
        net->states[NET_LAST->units + j] = (net_value)NET_HOLD(net_rho(NET_LAST, field));
    }
}
#if NET_LEARN

/* What it shows while it is nudged: the force of the target on it. */
static void net_pull(net_memory *net) {
    size_t j;
    net_read(net);
#if NET_CROSS_ENTROPY
    net_shares(net, net->softmax);
#endif
    for (j = 0; j < NET_OUTPUTS; j++)
        net->states[NET_LAST->units + j] = (net_value)NET_HOLD(net_force(net, NET_LAST, j));
}
#endif
