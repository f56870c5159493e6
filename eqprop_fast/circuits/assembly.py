"""From a netlist to equations: known voltages eliminated, the rest as modified nodal analysis.

`Assembly` holds what depends on the topology alone and is made once; `Assembly.numeric()` puts the
present conductances and gains in. Unknowns: voltages of the nodes that no chain of voltage sources
ties to ground, then currents of the remaining voltage-defined branches, then currents of ideal
diodes.
"""

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from .elements import AMPLIFIER, CCCS, CCVS, DIODE, IDEAL, ISOURCE, RESISTOR, VCCS, VCVS, VSOURCE
from .errors import ElementError, FloatingNodeError, UnknownNodeError, VoltageLoopError


class _Entries:
    """Entries of a matrix as they are found: row, column, number of the value, sign."""

    def __init__(self):
        self._found = [], [], [], []

    def put(self, row, column, value, sign):
        """One entry, or as many as the arrays hold."""
        places = [np.asarray(a, np.int64) for a in (row, column, value)]
        places = [a.ravel() for a in np.broadcast_arrays(*places)]
        for found, a in zip(self._found, [*places, np.full(places[0].size, float(sign))]):
            found.append(a)

    def through(self, a, b, column, value, sign=1.0):
        """A current ``values[value] * unknown[column]`` that leaves node a and enters node b."""
        self.put(a, column, value, sign)
        self.put(b, column, value, -sign)

    def arrays(self):
        """(row, column, number of the value, sign), in the order they came."""
        return tuple(np.concatenate(found) for found in self._found)


class Assembly:
    """Topology of a netlist as index arrays. Raises for floating nodes and loops of voltage
    sources.
    """

    def __init__(self, netlist):
        self.net = net = netlist
        n = self.n_nodes = net.n_nodes
        self.pairs = {
            kind: np.array(net.nodes[kind], dtype=np.int64).reshape(
                -1, 4 if kind in (VCVS, VCCS) else 2
            )
            for kind in range(9)
        }
        self._incidence = {}
        self._resolve_controls()
        self._check_loops()
        self.check_floating()
        self._find_known()

        # Branches kept as unknowns, in this order; V sources of the tree are not among them.
        kept = [(VSOURCE, k) for k in np.flatnonzero(~self.in_tree)]
        kept += [(kind, k) for kind in (VCVS, CCVS, AMPLIFIER) for k in range(len(net.names[kind]))]
        self.kept = kept
        ideal = np.array([m == IDEAL for m in net.diode_models], dtype=bool)
        self.unknown_nodes = np.flatnonzero(~self.known)
        n_u, n_b = len(self.unknown_nodes), len(kept)
        self.n_unknown_nodes = n_u
        self.n = n_u + n_b + int(ideal.sum())
        #: column of each node and branch: unknown number, or -1
        self.unknown_of_node = np.full(n, -1, dtype=np.int64)
        self.unknown_of_node[self.unknown_nodes] = np.arange(n_u)
        self.branch_unknown = {key: n_u + j for j, key in enumerate(kept)}

        diodes = self.pairs[DIODE]
        self.anode = self.unknown_of_node[diodes[:, 0]].astype(np.int32)
        self.cathode = self.unknown_of_node[diodes[:, 1]].astype(np.int32)
        self.diode_branch = np.where(ideal, n_u + n_b + np.cumsum(ideal) - 1, -1).astype(np.int32)
        self.diode_nodes = diodes
        self.ideal = ideal
        entries = []  # currents of exponential diodes into KCL rows; those of ideal ones are columns of A
        for terminal, sign in ((self.anode, 1.0), (self.cathode, -1.0)):
            at = np.flatnonzero((terminal >= 0) & ~ideal)
            entries.append((np.full(at.size, sign), at, terminal[at]))
        sign, at, row = (np.concatenate(e) for e in zip(*entries, strict=True))
        self.diode_into = sparse.csr_matrix((sign, (at, row)), shape=(len(diodes), n_u))
        self._find_inputs()
        self._stamp()

    def incidence(self, kind):
        """CSR (elements of a kind, n_nodes): 1 where an element's current leaves a node, -1 where
        it enters one.
        """
        if kind not in self._incidence:
            a, b = self.pairs[kind][:, :2].T
            j = np.arange(len(a))
            self._incidence[kind] = sparse.csr_matrix(
                (np.repeat([1.0, -1.0], len(a)), (np.tile(j, 2), np.r_[a, b])),
                (len(a), self.n_nodes),
            )
        return self._incidence[kind]

    # --- checks ---

    def _resolve_controls(self):
        net = self.net
        self.control = {}
        for kind in (CCCS, CCVS):
            found = []
            for name, source in zip(net.names[kind], net.controls[kind], strict=True):
                try:
                    where = net.find(source)
                except UnknownNodeError:
                    where = (None, None)
                if where[0] != VSOURCE:
                    raise UnknownNodeError(
                        f"{name!r} is controlled by {source!r}, which is not a voltage source"
                    )
                found.append(where[1])
            self.control[kind] = np.array(found, dtype=np.int64)

    def _voltage_edges(self):
        """Node pairs of all voltage-defined branches with their names; an amplifier drives its
        output from ground.
        """
        net, edges = self.net, []
        for kind in (VSOURCE, VCVS, CCVS):
            edges += [
                (a[0], a[1], name) for a, name in zip(net.nodes[kind], net.names[kind], strict=True)
            ]
        edges += [
            (a[1], 0, name)
            for a, name in zip(net.nodes[AMPLIFIER], net.names[AMPLIFIER], strict=True)
        ]
        return edges

    def _check_loops(self):
        parent = list(range(self.net.n_nodes))

        def root(k):
            while parent[k] != k:
                parent[k] = parent[parent[k]]
                k = parent[k]
            return k

        for a, b, name in self._voltage_edges():
            ra, rb = root(a), root(b)
            if ra == rb:
                ends = f"{self.net.node_names[a]!r} and {self.net.node_names[b]!r}"
                raise VoltageLoopError(
                    f"{name!r} between nodes {ends} closes a loop of voltage sources"
                )
            parent[ra] = rb

    def check_floating(self, conducting=slice(None)):
        """FloatingNodeError for a node without a path to ground, of the `conducting` resistors
        alone.
        """
        net = self.net
        if net.n_nodes == 1:
            raise FloatingNodeError("the circuit has no node besides ground")
        edges = [self.pairs[RESISTOR][conducting], self.pairs[DIODE]]
        voltage = [(a, b) for a, b, _ in self._voltage_edges()]
        edges.append(np.array(voltage, dtype=np.int64).reshape(-1, 2))
        e = np.concatenate(edges)
        graph = sparse.coo_matrix(
            (np.ones(len(e)), (e[:, 0], e[:, 1])), shape=(net.n_nodes, net.n_nodes)
        )
        _, label = csgraph.connected_components(graph, directed=False)
        lost = np.flatnonzero(label != label[0])
        if lost.size:
            raise FloatingNodeError(
                f"node {net.node_names[lost[0]]!r} has no direct-current path to ground"
                + (f" (and {lost.size - 1} more nodes)" if lost.size > 1 else "")
            )

    def _find_known(self):
        """Nodes tied to ground by chains of voltage sources whose current controls nothing."""
        net = self.net
        n_v = len(net.names[VSOURCE])
        controlling = set(np.concatenate([self.control[CCCS], self.control[CCVS]]).tolist())
        neighbours = {}
        for k, (a, b) in enumerate(net.nodes[VSOURCE]):
            if k not in controlling:
                neighbours.setdefault(a, []).append((b, k, -1.0))  # v_b = v_a - V
                neighbours.setdefault(b, []).append((a, k, 1.0))  # v_a = v_b + V
        self.known = np.zeros(net.n_nodes, dtype=bool)
        self.known[0] = True
        self.in_tree = np.zeros(n_v, dtype=bool)
        rows, cols, signs, chain = [], [], [], {0: []}
        queue = [0]
        for node in queue:
            for other, k, sign in neighbours.get(node, ()):
                if not self.known[other]:
                    self.known[other] = self.in_tree[k] = True
                    chain[other] = chain[node] + [(k, sign)]
                    queue.append(other)
                    for source, s in chain[other]:
                        rows.append(other)
                        cols.append(source)
                        signs.append(s)
        #: node voltages of the known nodes = known_map @ source voltages
        self.known_map = sparse.csr_matrix((signs, (rows, cols)), shape=(net.n_nodes, n_v))

    # --- stamps ---

    def _stamp(self):
        """Entries of the matrix over all nodes and branches, as (row, column, value number, sign)."""
        net, n = self.net, self.net.n_nodes
        entries = _Entries()
        put, through = entries.put, entries.through
        first, self.offset_of = 1, {}  # value number 0 is the constant 1
        for kind in (RESISTOR, VCVS, VCCS, CCCS, CCVS, AMPLIFIER):
            self.offset_of[kind] = first
            first += len(net.names[kind])
        self.feedback_at = first
        branch = {key: n + j for j, key in enumerate(self.kept)}

        a, b = self.pairs[RESISTOR].T
        s = self.offset_of[RESISTOR] + np.arange(len(a))
        through(a, b, a, s)
        through(a, b, b, s, -1.0)
        if len(net.names[VCCS]):
            a, b, ca, cb = self.pairs[VCCS].T
            s = self.offset_of[VCCS] + np.arange(len(a))
            through(a, b, ca, s)
            through(a, b, cb, s, -1.0)
        for kind in (VSOURCE, VCVS, CCVS, AMPLIFIER):
            for k, nodes in enumerate(net.nodes[kind]):
                j = branch.get((kind, k))
                if j is None:
                    continue
                if kind == AMPLIFIER:
                    node_in, node_out = nodes
                    put(node_out, j, 0, 1.0)  # current that leaves `out` into the amplifier
                    put(node_in, j, self.feedback_at + k, -1.0)
                    put(j, node_out, 0, 1.0)
                    put(j, node_in, self.offset_of[kind] + k, -1.0)
                    continue
                through(nodes[0], nodes[1], j, 0)
                put(j, nodes[0], 0, 1.0)
                put(j, nodes[1], 0, -1.0)
                if kind == VCVS:
                    put(j, nodes[2], self.offset_of[kind] + k, -1.0)
                    put(j, nodes[3], self.offset_of[kind] + k, 1.0)
                elif kind == CCVS:
                    put(
                        j,
                        branch[VSOURCE, int(self.control[CCVS][k])],
                        self.offset_of[kind] + k,
                        -1.0,
                    )
        for k, (a, b) in enumerate(net.nodes[CCCS]):
            through(a, b, branch[VSOURCE, int(self.control[CCCS][k])], self.offset_of[CCCS] + k)
        full = n + len(self.kept)
        for k in np.flatnonzero(self.ideal):  # KCL entries of the ideal diodes' own currents
            column = full + self.diode_branch[k] - self.n_unknown_nodes - len(self.kept)
            through(self.diode_nodes[k, 0], self.diode_nodes[k, 1], column, 0)
        total = full + int(self.ideal.sum())
        self._entries = entries.arrays()
        self._unknown = np.concatenate(
            [self.unknown_of_node, np.arange(self.n_unknown_nodes, self.n)]
        )
        assert len(self._unknown) == total
        self._pattern()

    def _pattern(self):
        """CSR patterns of A (unknown x unknown, with room for the diodes) and K (unknown x known
        node).
        """
        rows, cols, source, sign = self._entries
        r, c = self._unknown[rows], self._unknown[cols]
        in_a = (r >= 0) & (c >= 0)
        # Room for what diodes add; their places need not hold any other entry.
        an, ca, br = (x.astype(np.int64) for x in (self.anode, self.cathode, self.diode_branch))
        room = [
            (an, an),
            (an, ca),
            (ca, an),
            (ca, ca),
            (an, br),
            (ca, br),
            (br, an),
            (br, ca),
            (br, br),
        ]
        room = [(p[(p >= 0) & (q >= 0)], q[(p >= 0) & (q >= 0)]) for p, q in room]
        key = np.concatenate([r[in_a] * self.n + c[in_a]] + [p * self.n + q for p, q in room])
        unique, place = np.unique(key, return_inverse=True)
        self._a_place, self._a_source, self._a_sign = place[: in_a.sum()], source[in_a], sign[in_a]
        self.indices = (unique % self.n).astype(np.int32)
        self.indptr = np.searchsorted(
            unique, np.arange(self.n + 1, dtype=np.int64) * self.n
        ).astype(np.int32)
        in_k = (r >= 0) & (c < 0) & (cols > 0) & (cols < self.net.n_nodes)
        self._k = (r[in_k], cols[in_k], source[in_k], sign[in_k])

    # --- numbers ---

    def values(self):
        """The numbers the stamps refer to: 1, conductances, gains, feedbacks."""
        net = self.net
        parts = [np.ones(1)]
        for kind in (RESISTOR, VCVS, VCCS, CCCS, CCVS, AMPLIFIER):
            parts.append(np.asarray(net.values[kind], dtype=np.float64))
        parts.append(np.asarray(net.feedback, dtype=np.float64))
        return np.concatenate(parts)

    def numeric(self, values):
        """CSR matrices A (n, n) and K (n, n_nodes) for `values`: A x + K v_known + diodes = rhs."""
        data = np.bincount(
            self._a_place,
            weights=self._a_sign * values[self._a_source],
            minlength=len(self.indices),
        ).astype(np.float64, copy=False)  # that of no entry at all is integer
        a = sparse.csr_matrix((data, self.indices, self.indptr), shape=(self.n, self.n))
        r, c, s, sign = self._k
        k = sparse.csr_matrix((sign * values[s], (r, c)), shape=(self.n, self.net.n_nodes))
        return a, k

    def node_rows(self, values):
        """CSR (n_nodes, n_nodes + other unknowns): current leaving every node through the linear
        elements.
        """
        rows, cols, source, sign = self._entries
        n = self.n_nodes
        keep = rows < n
        data = sign[keep] * values[source[keep]]
        return sparse.csr_matrix((data, (rows[keep], cols[keep])), shape=(n, len(self._unknown)))

    def sources(self, inputs, n_samples):
        """Voltages and currents of all independent sources, (M, n_v) and (M, n_i), with `inputs`
        (M, n_in) put in.
        """
        net = self.net
        v = np.tile(np.asarray(net.values[VSOURCE], dtype=np.float64), (n_samples, 1))
        i = np.tile(np.asarray(net.values[ISOURCE], dtype=np.float64), (n_samples, 1))
        if inputs is not None:
            if inputs.shape[1] != len(net.inputs):
                raise ElementError(
                    f"inputs must have {len(net.inputs)} columns, got {inputs.shape[1]}"
                )
            for kind, table in ((VSOURCE, v), (ISOURCE, i)):
                columns, places = self._input_places[kind]
                if columns.size:
                    table[:, places] = inputs[:, columns]
        return v, i

    def _find_inputs(self):
        """For each kind of source: columns of `inputs` and the sources they set."""
        where = [self.net.find(name) for name in self.net.inputs]
        self._input_places = {}
        for kind in (VSOURCE, ISOURCE):
            at = np.array(
                [(k, index) for k, (found, index) in enumerate(where) if found == kind],
                dtype=np.int64,
            )
            self._input_places[kind] = at.reshape(-1, 2).T
        a, b = self.pairs[ISOURCE].T
        self._isource_into = sparse.csr_matrix(
            (
                np.r_[-np.ones(len(a)), np.ones(len(a))],
                (np.tile(np.arange(len(a)), 2), np.r_[a, b]),
            ),
            shape=(len(a), self.net.n_nodes),
        )

    def right_hand_side(self, drive, v, i, extra=None):
        """What the sources do to each of M samples.

        Parameters
        ----------
        drive : Drive of the matrix K
        v, i : source voltages (M, n_v) and currents (M, n_i)
        extra : (M, n_nodes) or None
            Current pushed into nodes (nudging), ampere.

        Returns
        -------
        rhs (M, n), known node voltages (M, n_nodes, zero elsewhere), diode offsets (M, n_d), and
        current pushed into the nodes (M, n_nodes) or None if there is none
        """
        m = len(v)
        known = np.zeros((m, self.net.n_nodes))
        if self.known_map.nnz:
            known[:] = v @ self.known_map.T
        rhs = np.zeros((m, self.n))
        drive.add(known, rhs)
        into = extra
        if i.shape[1]:
            into = i @ self._isource_into if extra is None else extra + i @ self._isource_into
        if into is not None:
            rhs[:, : self.n_unknown_nodes] += into[:, self.unknown_nodes]
        for (kind, index), unknown in self.branch_unknown.items():
            if kind == VSOURCE:
                rhs[:, unknown] += v[:, index]
        offset = np.ascontiguousarray(
            known[:, self.diode_nodes[:, 0]] - known[:, self.diode_nodes[:, 1]]
        )
        return rhs, known, offset, into


class Drive:
    """-K applied to batches of known voltages: dense on its non-empty rows and columns when that is
    small.
    """

    def __init__(self, k):
        self.rows = np.flatnonzero(np.diff(k.indptr))
        self.columns = np.unique(k.indices)
        part = k[self.rows][:, self.columns] * -1.0
        dense = part.shape[0] * part.shape[1] <= max(4096, 20 * part.nnz)
        self.transposed = np.ascontiguousarray(part.toarray().T) if dense else part.T.tocsr()

    def add(self, known, rhs):
        """rhs[:, rows] -= K known, in place."""
        if self.rows.size:
            rhs[:, self.rows] += known[:, self.columns] @ self.transposed
