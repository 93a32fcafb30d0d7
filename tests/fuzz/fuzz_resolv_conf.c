/* Fuzzes the readers of resolv.conf and hosts files with the same text. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/resolv_conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct resolv_conf conf;
    struct hosts hosts = {0};
    union addr addr;
    struct str text = {(const char *)data, size};
    resolv_conf_parse(&conf, text);
    if (conf.server_count < 1 || conf.server_count > RESOLV_MAX_SERVERS || conf.attempts < 1 ||
        conf.timeout < SECONDS(1) || conf.search_count > RESOLV_MAX_SEARCH) {
        abort();
    }
    for (size_t i = 0; i < conf.search_count; i++) {
        if (!dns_name_valid(conf.search[i])) {
            abort();
        }
    }
    hosts_parse(&hosts, text);
    for (size_t i = 0; i < hosts.count; i++) {
        size_t n = strlen(hosts.entries[i].name);
        bool dot = hosts.entries[i].name[n - 1] == '.';
        if (!dot && hosts_find(&hosts, hosts.entries[i].name, &addr, 1) != 1) {
            abort();
        }
    }
    hosts_free(&hosts);
    return 0;
}
