/* ---- slots of flash ----
 *
 *     slot:  model  sequence  size  crc | the bytes of net_learned      in the device's own order
 *
 * The newest slot is the one with the larger sequence whose crc is right. A save erases the other
 * one, writes the bytes, then the header: until its last byte is there the crc is wrong, and the
 * old slot is the newest still. */

/* The first 16 bytes of a slot; the crc is of the three before it and of what follows. */
typedef struct {
    uint32_t model, sequence, size, crc;
} net_header;

enum { NET_HEADER = 16 }; /* its bytes, whatever the compiler's alignment */

/* CRC-32 (polynomial 0xEDB88320), four bits at a time; `crc` goes on from what came before. */
static uint32_t net_crc(uint32_t crc, const void *data, size_t n) {
    static const uint32_t table[16] = {0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu,
                                       0x76DC4190u, 0x6B6B51F4u, 0x4DB26158u, 0x5005713Cu,
                                       0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu,
                                       0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu};
    const unsigned char *byte = (const unsigned char *)data;
    crc = ~crc;
    for (; n > 0; n--, byte++) {
        crc = table[(crc ^ *byte) & 15] ^ (crc >> 4);
        crc = table[(crc ^ (uint32_t)(*byte >> 4)) & 15] ^ (crc >> 4);
    }
    return ~crc;
}

/* What a slot holds: NET_OK, _EMPTY, _OTHER_MODEL, _CORRUPT or _FLASH. */
static net_status net_look(const net_flash *flash, int slot, net_header *header) {
    unsigned char part[32];
    uint32_t at, n, crc;
    if (flash->read(flash->context, slot, 0, header, NET_HEADER) != 0) return NET_ERROR_FLASH;
    if ((header->model & header->sequence & header->size & header->crc) == UINT32_C(0xFFFFFFFF) ||
        (header->model | header->sequence | header->size | header->crc) == 0)
        return NET_ERROR_EMPTY; /* erased */
    /* before anything of that size is read */
    if (header->size != sizeof(net_learned)) return NET_ERROR_OTHER_MODEL;
    crc = net_crc(0, header, 12); /* in small parts: nobody has RAM for a second copy */
    for (at = 0; at < header->size; at += n) {
        n = header->size - at < sizeof part ? header->size - at : (uint32_t)sizeof part;
        if (flash->read(flash->context, slot, NET_HEADER + at, part, n) != 0)
            return NET_ERROR_FLASH;
        crc = net_crc(crc, part, (size_t)n);
    }
    if (crc != header->crc) return NET_ERROR_CORRUPT;
    return header->model == NET_FINGERPRINT ? NET_OK : NET_ERROR_OTHER_MODEL;
}

/* The newest good slot and its header, or -1; `why` is NET_ERROR_FLASH if any read failed, else why
 * there is none. */
static int net_newest(const net_flash *flash, net_header *header, net_status *why) {
    net_header headers[2];
    const net_status found[2] = {net_look(flash, 0, &headers[0]), net_look(flash, 1, &headers[1])};
    int newest = found[0] != NET_OK;
    *why = found[0] > found[1] ? found[0] : found[1]; /* EMPTY < CORRUPT < OTHER_MODEL */
    if (found[0] == NET_ERROR_FLASH || found[1] == NET_ERROR_FLASH) *why = NET_ERROR_FLASH;
    if (found[newest] != NET_OK) return -1;
    if (found[0] == found[1]) /* the counter may have gone round */
        newest = headers[1].sequence - headers[0].sequence < UINT32_C(0x80000000);
    *header = headers[newest];
    return newest;
}

/* All three callbacks are there. */
static int net_complete(const net_flash *flash) {
    return flash != NULL && flash->erase != NULL && flash->write != NULL && flash->read != NULL;
}

/* The header is written last and all is read back: a flash that lies is found out now, while the
 * older slot is still there. */
net_status net_save(const net_memory *net, const net_flash *flash) {
    const net_learned *learned;
    net_header header, written;
    net_status status = net_check(net, flash);
    int slot, newest;
    if (status != NET_OK) return status;
    if (!net_complete(flash)) return NET_ERROR_NULL;
    newest = net_newest(flash, &header, &status);
    if (status == NET_ERROR_FLASH)
        return status; /* what cannot be read may be the newest: keep it */
    learned = &net->learned;
    slot = newest == 0; /* 1 if the newest is 0, else 0 */
    header.model = NET_FINGERPRINT;
    header.sequence = newest < 0 ? 1 : header.sequence + 1; /* may go round: see net_newest */
    header.size = (uint32_t)sizeof(net_learned);
    header.crc = net_crc(net_crc(0, &header, 12), learned, sizeof(net_learned));
    if (flash->erase(flash->context, slot) != 0 ||
        flash->write(flash->context, slot, NET_HEADER, learned, header.size) != 0 ||
        flash->write(flash->context, slot, 0, &header, NET_HEADER) != 0)
        return NET_ERROR_FLASH;
    status = net_look(flash, slot, &written); /* what is there now */
    return status == NET_OK && written.crc == header.crc ? NET_OK : NET_ERROR_FLASH;
}

/* net_newest has seen a right crc; the bytes are checked again where they now lie, for a second
 * read may fail, and half of a network must not stay. */
net_status net_load(net_memory *net, const net_flash *flash) {
    net_header header;
    net_status status = net_check(net, flash);
    int slot;
    if (status != NET_OK) return status;
    if (!net_complete(flash)) return NET_ERROR_NULL;
    slot = net_newest(flash, &header, &status);
    if (slot < 0) return status;
    if (flash->read(flash->context, slot, NET_HEADER, &net->learned, header.size) != 0 ||
        net_crc(net_crc(0, &header, 12), &net->learned, sizeof(net_learned)) != header.crc) {
        (void)net_reset(net);
        return NET_ERROR_FLASH;
    }
#if NET_RESISTIVE
    net_total(net);
#endif
    return NET_OK;
}
