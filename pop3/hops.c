/* Reads, searches and writes the list of tproxies that a login has come through. */
#include "pop3/hops.h"

/* The texts before and after the id in a greeting; see pop3_greeting(). */
static const char greeting_start[] = "+OK tproxy ", greeting_end[] = " ready";

static int read_id(struct str text, uint64_t *id)
{
    *id = 0;
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (c >= '0' && c <= '9') {
            *id = *id << 4 | (uint64_t)(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            *id = *id << 4 | (uint64_t)(c - 'a' + 10);
        } else {
            return ERR;
        }
    }
    return text.n == HOPS_ID_LEN ? OK : ERR;
}

bool pop3_hops_greeting(struct str line)
{
    size_t start = sizeof(greeting_start) - 1, end = sizeof(greeting_end) - 1;
    uint64_t id;
    if (line.n != start + HOPS_ID_LEN + end) {
        return false;
    }
    return str_eq((struct str){line.p, start}, greeting_start) &&
           read_id((struct str){line.p + start, HOPS_ID_LEN}, &id) == OK &&
           str_eq((struct str){line.p + start + HOPS_ID_LEN, end}, greeting_end);
}

int pop3_hops_read(struct hops *hops, struct str list)
{
    struct hops read = {0};
    while (true) {
        struct str id = {list.p, list.n < HOPS_ID_LEN ? list.n : HOPS_ID_LEN};
        if (read.n == HOPS_MAX || read_id(id, &read.ids[read.n++]) != OK) {
            return ERR;
        }
        list.p += id.n;
        list.n -= id.n;
        if (list.n == 0) {
            *hops = read;
            return OK;
        }
        if (list.p[0] != ' ') {
            return ERR;
        }
        list.p++;
        list.n--;
    }
}

int pop3_hops_since(const struct hops *hops, const char *id)
{
    uint64_t wanted;
    if (read_id(str_of(id), &wanted) != OK) {
        return -1;
    }
    for (int i = hops->n - 1; i >= 0; i--) {
        if (hops->ids[i] == wanted) {
            return hops->n - 1 - i;
        }
    }
    return -1;
}

int pop3_hops_add(struct hops *hops, const char *id)
{
    uint64_t number;
    if (hops->n == HOPS_MAX || read_id(str_of(id), &number) != OK) {
        return ERR;
    }
    hops->ids[hops->n++] = number;
    return OK;
}

void pop3_hops_text(const struct hops *hops, char out[HOPS_TEXT_MAX])
{
    size_t n = 0;
    out[0] = '\0';
    for (size_t i = 0; i < hops->n; i++) {
        n += text_fmt(out + n, HOPS_TEXT_MAX - n, "%s%016llx", i ? " " : "",
                      (unsigned long long)hops->ids[i]);
    }
}
