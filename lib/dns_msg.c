/* DNS messages (RFC 1035 section 4).
 *
 *   header: id, flags, four counts | question | answers | authorities | additional records
 *   record: name, type, class, TTL, length of data, data
 *
 * Names are compared as `struct name`: labels with their lengths as on the wire, pointers resolved,
 * lower case. The dotted form would be ambiguous, because a label may hold any byte.
 *
 * The work for one message is bounded. Its records are walked through once, and the names of
 * unneeded records are skipped without following pointers. At most RECORDS_MAX + CNAMES_MAX + 1
 * names are resolved, each with at most WIRE_NAME_MAX octets and JUMPS_MAX pointers. */
#include "lib/dns_msg.h"

#include <string.h>

enum {
    HEADER = 12,
    LABEL_MAX = 63,
    WIRE_NAME_MAX = 255,
    CLASS_IN = 1,
    TYPE_CNAME = 5,
    TYPE_SOA = 6,
    /* Bounds of the work that one answer may cause. Servers need one or two pointers a name. */
    RECORDS_MAX = 128,
    CNAMES_MAX = 16,
    JUMPS_MAX = 32,
};

enum { FLAG_ANSWER = 0x8000, FLAG_TRUNCATED = 0x0200, FLAG_RECURSE = 0x0100, OPCODE_MASK = 0x7800 };
enum { RCODE_OK = 0, RCODE_NO_NAME = 3, RCODE_MASK = 0xF };

struct name {
    size_t n;
    unsigned char p[WIRE_NAME_MAX];
};

struct reader {
    const unsigned char *p;
    size_t n, at;
};

struct record {
    size_t owner; /* offset of its name */
    unsigned type, class;
    uint32_t ttl;
    size_t data, data_n; /* offset and length of its data */
};

/* The answers that matter, aliases and addresses, with the names of their owners. */
struct answers {
    const struct reader *msg;
    size_t n;
    struct {
        struct name owner;
        struct record record;
    } list[RECORDS_MAX];
};

/* ---- names ---- */

static bool host_char(char c)
{
    return text_is_alnum(c) || c == '-' || c == '_';
}

static bool is_number(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9') {
            return false;
        }
    }
    return true;
}

static struct str without_last_dot(const char *name)
{
    struct str s = str_of(name);
    if (s.n && s.p[s.n - 1] == '.') {
        s.n--;
    }
    return s;
}

bool dns_name_valid(const char *name)
{
    struct str rest = without_last_dot(name), label = {0};
    if (rest.n == 0 || rest.n > DNS_NAME_MAX || rest.p[rest.n - 1] == '.') {
        return false;
    }
    while (rest.n) {
        label = str_cut(&rest, '.');
        if (label.n == 0 || label.n > LABEL_MAX) {
            return false;
        }
        for (size_t i = 0; i < label.n; i++) {
            if (!host_char(label.p[i])) {
                return false;
            }
        }
    }
    return !is_number(label);
}

static void name_from_text(struct name *out, const char *text)
{
    struct str rest = without_last_dot(text);
    out->n = 0;
    while (rest.n) {
        struct str label = str_cut(&rest, '.');
        out->p[out->n++] = (unsigned char)label.n;
        for (size_t i = 0; i < label.n; i++) {
            out->p[out->n++] = (unsigned char)text_lower(label.p[i]);
        }
    }
    out->p[out->n++] = 0;
}

static bool name_equal(const struct name *a, const struct name *b)
{
    return a->n == b->n && memcmp(a->p, b->p, a->n) == 0;
}

/* ---- reading ---- */

static int read_u16(struct reader *r, unsigned *value)
{
    if (r->n - r->at < 2) {
        return ERR;
    }
    *value = (unsigned)r->p[r->at] << 8 | r->p[r->at + 1];
    r->at += 2;
    return OK;
}

static int read_u32(struct reader *r, uint32_t *value)
{
    unsigned high, low;
    if (read_u16(r, &high) != OK || read_u16(r, &low) != OK) {
        return ERR;
    }
    *value = (uint32_t)high << 16 | low;
    return OK;
}

static bool is_pointer(unsigned length)
{
    return length >= 0xC0;
}

/* Skips a name without following the pointer at its end. */
static int skip_name(struct reader *r)
{
    for (;;) {
        if (r->at >= r->n) {
            return ERR;
        }
        unsigned length = r->p[r->at];
        size_t step = is_pointer(length) ? 2 : length + 1;
        if ((length > LABEL_MAX && !is_pointer(length)) || r->n - r->at < step) {
            return ERR;
        }
        r->at += step;
        if (length == 0 || is_pointer(length)) {
            return OK;
        }
    }
}

/* Follows the pointer at *at, which ends the part of a name that begins at `piece`. The pointer
 * must lead to a place before `piece`, so pointers cannot go round in circles. */
static int follow_pointer(const struct reader *r, size_t *at, size_t piece)
{
    if (r->n - *at < 2) {
        return ERR;
    }
    size_t to = (size_t)(r->p[*at] & 0x3F) << 8 | r->p[*at + 1];
    *at = to;
    return to < piece ? OK : ERR;
}

/* Resolves the name at `at`. ERR also when the name takes more than JUMPS_MAX pointers. */
static int name_at(const struct reader *r, size_t at, struct name *name)
{
    size_t piece = at;
    unsigned jumps = 0;
    name->n = 0;
    while (at < r->n) {
        unsigned length = r->p[at];
        if (is_pointer(length)) {
            if (++jumps > JUMPS_MAX || follow_pointer(r, &at, piece) != OK) {
                return ERR;
            }
            piece = at;
            continue;
        }
        if (length > LABEL_MAX || r->n - at <= length || name->n + length + 1 > WIRE_NAME_MAX) {
            return ERR;
        }
        name->p[name->n++] = (unsigned char)length;
        for (unsigned i = 1; i <= length; i++) {
            name->p[name->n++] = (unsigned char)text_lower((char)r->p[at + i]);
        }
        at += length + 1;
        if (length == 0) {
            return OK;
        }
    }
    return ERR;
}

static int read_name(struct reader *r, struct name *name)
{
    size_t at = r->at;
    return skip_name(r) == OK ? name_at(r, at, name) : ERR;
}

static int read_record(struct reader *r, struct record *record)
{
    unsigned n;
    record->owner = r->at;
    if (skip_name(r) != OK || read_u16(r, &record->type) != OK ||
        read_u16(r, &record->class) != OK || read_u32(r, &record->ttl) != OK ||
        read_u16(r, &n) != OK || r->n - r->at < n) {
        return ERR;
    }
    if (record->ttl > INT32_MAX) {
        record->ttl = 0; /* RFC 2181 section 8 */
    }
    record->data = r->at;
    record->data_n = n;
    r->at += n;
    return OK;
}

/* ---- the question ---- */

static size_t put_u16(unsigned char *out, unsigned value)
{
    out[0] = (unsigned char)(value >> 8);
    out[1] = (unsigned char)value;
    return 2;
}

size_t dns_msg_query(unsigned char out[DNS_MSG_QUERY_MAX], uint16_t id, const char *name,
                     enum dns_type type)
{
    struct name wire;
    size_t n = HEADER;
    memset(out, 0, HEADER);
    put_u16(out, id);
    put_u16(out + 2, FLAG_RECURSE);
    put_u16(out + 4, 1);
    name_from_text(&wire, name);
    memcpy(out + n, wire.p, wire.n);
    n += wire.n;
    n += put_u16(out + n, type);
    n += put_u16(out + n, CLASS_IN);
    return n;
}

/* ---- the answer ---- */

static const char *problem_of(unsigned rcode)
{
    switch (rcode) {
    case 1:
        return "FORMERR";
    case 2:
        return "SERVFAIL";
    case 4:
        return "NOTIMP";
    case 5:
        return "REFUSED";
    default:
        return "unknown response code";
    }
}

/* Reads `count` answers and keeps the aliases and the addresses of that type. */
static int read_answers(struct reader *r, size_t count, enum dns_type type, struct answers *answers)
{
    answers->msg = r;
    answers->n = 0;
    for (size_t i = 0; i < count; i++) {
        struct record record;
        if (read_record(r, &record) != OK) {
            return ERR;
        }
        if (record.class != CLASS_IN ||
            (record.type != TYPE_CNAME && record.type != (unsigned)type)) {
            continue;
        }
        if (name_at(r, record.owner, &answers->list[answers->n].owner) != OK) {
            return ERR;
        }
        answers->list[answers->n++].record = record;
    }
    return OK;
}

/* Returns the alias of `name`; NULL when it has no alias. */
static const struct record *find_cname(const struct answers *answers, const struct name *name)
{
    for (size_t i = 0; i < answers->n; i++) {
        if (answers->list[i].record.type == TYPE_CNAME &&
            name_equal(&answers->list[i].owner, name)) {
            return &answers->list[i].record;
        }
    }
    return NULL;
}

/* Follows the aliases to the name that the addresses belong to. AGAIN: there are too many. */
static int follow_cnames(const struct answers *answers, struct name *name, uint32_t *ttl)
{
    for (int i = 0; i < CNAMES_MAX; i++) {
        const struct record *cname = find_cname(answers, name);
        if (!cname) {
            return OK;
        }
        struct reader target = *answers->msg;
        target.at = cname->data;
        if (read_name(&target, name) != OK || target.at != cname->data + cname->data_n) {
            return ERR;
        }
        *ttl = cname->ttl < *ttl ? cname->ttl : *ttl;
    }
    return AGAIN;
}

static int take_addresses(const struct answers *answers, const struct name *name,
                          enum dns_type type, struct dns_answer *answer)
{
    size_t size = type == DNS_TYPE_A ? 4 : 16;
    for (size_t i = 0; i < answers->n; i++) {
        const struct record *record = &answers->list[i].record;
        if (record->type != (unsigned)type || !name_equal(&answers->list[i].owner, name)) {
            continue;
        }
        if (record->data_n != size) {
            return ERR;
        }
        if (answer->n < DNS_MAX_ADDRS) {
            const unsigned char *ip = answers->msg->p + record->data;
            answer->addrs[answer->n++] = type == DNS_TYPE_A ? addr_v4(ip) : addr_v6(ip);
            answer->ttl = record->ttl < answer->ttl ? record->ttl : answer->ttl;
        }
    }
    return OK;
}

/* Finds how long the absence may be remembered: the lower of the SOA record's TTL and its last
 * field. */
static int take_negative_ttl(struct reader *r, size_t count, uint32_t *ttl)
{
    for (size_t i = 0; i < count && i < RECORDS_MAX; i++) {
        struct record record;
        if (read_record(r, &record) != OK) {
            return ERR;
        }
        if (record.type == TYPE_SOA && record.class == CLASS_IN && record.data_n >= 4) {
            uint32_t minimum = 0;
            struct reader last = {r->p, r->n, record.data + record.data_n - 4};
            if (read_u32(&last, &minimum) != OK) {
                return ERR;
            }
            *ttl = minimum < record.ttl ? minimum : record.ttl;
            return OK;
        }
    }
    return OK;
}

static int bad_answer(struct dns_answer *answer, const char *problem)
{
    answer->outcome = DNS_SERVER_FAILED;
    answer->problem = problem;
    return OK;
}

int dns_msg_answer(const void *msg, size_t n, uint16_t id, const char *name, enum dns_type type,
                   struct dns_answer *answer)
{
    struct reader r = {msg, n, 0};
    struct name wanted, asked;
    unsigned got_id, flags, counts[4], got_type, got_class;
    *answer = (struct dns_answer){.ttl = UINT32_MAX};

    if (read_u16(&r, &got_id) != OK || got_id != id || read_u16(&r, &flags) != OK) {
        return ERR;
    }
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        if (read_u16(&r, &counts[i]) != OK) {
            return ERR;
        }
    }
    name_from_text(&wanted, name);
    if (!(flags & FLAG_ANSWER) || flags & OPCODE_MASK || counts[0] != 1 ||
        read_name(&r, &asked) != OK || read_u16(&r, &got_type) != OK ||
        read_u16(&r, &got_class) != OK || !name_equal(&asked, &wanted) ||
        got_type != (unsigned)type || got_class != CLASS_IN) {
        return ERR;
    }

    unsigned rcode = flags & RCODE_MASK;
    if (flags & FLAG_TRUNCATED) {
        answer->outcome = DNS_TRUNCATED;
        return OK;
    }
    if (rcode != RCODE_OK && rcode != RCODE_NO_NAME) {
        return bad_answer(answer, problem_of(rcode));
    }
    size_t count = counts[1] < RECORDS_MAX ? counts[1] : RECORDS_MAX;
    struct answers answers;
    int rc = read_answers(&r, count, type, &answers);
    if (rc == OK) {
        rc = follow_cnames(&answers, &wanted, &answer->ttl);
    }
    if (rc != OK) {
        return rc == AGAIN ? bad_answer(answer, "too many aliases") : ERR;
    }
    if (take_addresses(&answers, &wanted, type, answer) != OK) {
        return ERR;
    }
    if (rcode == RCODE_NO_NAME) {
        answer->outcome = DNS_NO_NAME;
    } else {
        answer->outcome = answer->n ? DNS_ADDRESSES : DNS_NO_ADDRESS;
    }
    if (answer->outcome == DNS_ADDRESSES) {
        return OK;
    }
    answer->n = 0;
    answer->ttl = 0;
    return count == counts[1] ? take_negative_ttl(&r, counts[2], &answer->ttl) : OK;
}
