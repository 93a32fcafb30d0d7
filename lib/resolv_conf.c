/* resolv.conf(5) and hosts(5). */
#include "lib/resolv_conf.h"

#include <stdlib.h>
#include <string.h>

#include "lib/mem.h"

enum { DNS_PORT = 53 };

/* Defaults and bounds of resolv.conf(5). */
enum {
    NDOTS = 1,
    NDOTS_MAX = 15,
    TIMEOUT = 5,
    TIMEOUT_MAX = 30,
    ATTEMPTS = 2,
    ATTEMPTS_MAX = 5,
};

/* Takes the next line off *rest, without its end. Returns false when there is none. */
static bool next_line(struct str *rest, struct str *line)
{
    if (rest->n == 0) {
        return false;
    }
    *line = str_cut(rest, '\n');
    if (line->n && line->p[line->n - 1] == '\r') {
        line->n--;
    }
    return true;
}

/* Takes the next word off *line. Returns an empty one at the end of the line or at a comment. */
static struct str next_word(struct str *line)
{
    *line = str_trim(*line);
    struct str word = str_word(line);
    return word.n && (word.p[0] == '#' || word.p[0] == ';') ? (struct str){word.p, 0} : word;
}

/* ---- resolv.conf ---- */

static void add_server(struct resolv_conf *conf, struct str text)
{
    uint64_t port = DNS_PORT;
    union addr addr;
    struct str ip = str_cut(&text, '#');
    if (conf->server_count == RESOLV_MAX_SERVERS || addr_parse(ip, &addr) != OK ||
        (text.n && (text_number(text, UINT16_MAX, &port) != OK || port == 0))) {
        return;
    }
    addr_set_port(&addr, (uint16_t)port);
    conf->servers[conf->server_count++] = addr;
}

/* Replaces the search list: the last "search" or "domain" line counts. */
static void set_search(struct resolv_conf *conf, struct str domains, size_t max)
{
    conf->search_count = 0;
    for (struct str word = next_word(&domains); word.n && conf->search_count < max;
         word = next_word(&domains)) {
        char *domain = conf->search[conf->search_count];
        if (word.p[word.n - 1] == '.') {
            word.n--;
        }
        if (word.n && word.n <= DNS_NAME_MAX) {
            memcpy(domain, word.p, word.n);
            domain[word.n] = '\0';
            conf->search_count += dns_name_valid(domain);
        }
    }
}

/* Tells whether the option is "name:NUMBER". Values beyond [min, max] are moved to the bound. */
static bool number_option(struct str option, const char *name, uint64_t min, uint64_t max,
                          uint64_t *value)
{
    struct str key = str_cut(&option, ':');
    uint64_t v;
    if (!str_eq(key, name) || text_number(option, UINT32_MAX, &v) != OK) {
        return false;
    }
    v = v < max ? v : max;
    *value = v > min ? v : min;
    return true;
}

static void set_options(struct resolv_conf *conf, struct str options)
{
    for (struct str o = next_word(&options); o.n; o = next_word(&options)) {
        uint64_t v;
        if (number_option(o, "ndots", 0, NDOTS_MAX, &v)) {
            conf->ndots = (unsigned)v;
        } else if (number_option(o, "timeout", 1, TIMEOUT_MAX, &v)) {
            conf->timeout = SECONDS(v);
        } else if (number_option(o, "attempts", 1, ATTEMPTS_MAX, &v)) {
            conf->attempts = (unsigned)v;
        }
        conf->rotate |= str_eq(o, "rotate");
        conf->use_tcp |= str_eq(o, "use-vc");
        conf->no_ipv6 |= str_eq(o, "no-aaaa");
    }
}

void resolv_conf_parse(struct resolv_conf *conf, struct str text)
{
    struct str line;
    memset(conf, 0, sizeof(*conf));
    conf->ndots = NDOTS;
    conf->timeout = SECONDS(TIMEOUT);
    conf->attempts = ATTEMPTS;
    while (next_line(&text, &line)) {
        struct str keyword = next_word(&line);
        if (str_eq(keyword, "nameserver")) {
            add_server(conf, next_word(&line));
        } else if (str_eq(keyword, "search")) {
            set_search(conf, line, RESOLV_MAX_SEARCH);
        } else if (str_eq(keyword, "domain")) {
            set_search(conf, line, 1);
        } else if (str_eq(keyword, "options")) {
            set_options(conf, line);
        }
    }
    if (conf->server_count == 0) {
        add_server(conf, str_of("127.0.0.1"));
    }
}

struct addr_text resolv_server_text(const union addr *server)
{
    union addr shown = *server;
    if (addr_port(server) == DNS_PORT) {
        addr_set_port(&shown, 0);
    }
    return addr_text(&shown);
}

/* ---- hosts ---- */

static void add_host(struct hosts *hosts, const union addr *addr, struct str name)
{
    if (hosts->count == hosts->cap) {
        hosts->cap = hosts->cap ? hosts->cap * 2 : 16;
        hosts->entries = mem_realloc(hosts->entries, hosts->cap * sizeof(*hosts->entries));
    }
    /* The byte behind a word is a blank, a line end or our NUL. */
    char *end = hosts->text + (name.p - hosts->text) + name.n;
    *end = '\0';
    hosts->entries[hosts->count++] = (struct hosts_entry){*addr, name.p};
}

void hosts_parse(struct hosts *hosts, struct str text)
{
    hosts_free(hosts);
    hosts->text = mem_alloc(text.n + 1);
    memcpy(hosts->text, text.p, text.n);
    hosts->text[text.n] = '\0';
    struct str rest = str_of(hosts->text), line;
    while (next_line(&rest, &line)) {
        union addr addr;
        struct str comment = line;
        line = str_cut(&comment, '#');
        if (addr_parse(next_word(&line), &addr) != OK) {
            continue;
        }
        for (struct str name = next_word(&line); name.n; name = next_word(&line)) {
            add_host(hosts, &addr, name);
        }
    }
}

void hosts_free(struct hosts *hosts)
{
    free(hosts->text);
    free(hosts->entries);
    hosts->text = NULL;
    hosts->entries = NULL;
    hosts->count = hosts->cap = 0;
}

size_t hosts_find(const struct hosts *hosts, const char *name, union addr *addrs, size_t cap)
{
    struct str wanted = str_of(name);
    size_t n = 0;
    if (wanted.n && wanted.p[wanted.n - 1] == '.') {
        wanted.n--;
    }
    for (size_t i = 0; i < hosts->count && n < cap; i++) {
        if (str_ieq(wanted, hosts->entries[i].name)) {
            addrs[n++] = hosts->entries[i].addr;
        }
    }
    return n;
}
