/* The domain of the cluster's Services, as a pod's search list names it. */
#include "tproxy/domain.h"

#include <stdio.h>

#include "lib/resolv_conf.h"
#include "lib/text.h"

void domain_find(const char *path, char *out, size_t cap)
{
    static struct resolv_conf conf;
    char text[8192] = "";
    text_fmt(out, cap, "cluster.local");
    FILE *f = fopen(path, "r");
    if (!f) {
        return;
    }
    size_t n = fread(text, 1, sizeof(text), f);
    fclose(f);
    resolv_conf_parse(&conf, (struct str){text, n});
    for (size_t i = 0; i < conf.search_count; i++) {
        if (str_istarts(str_of(conf.search[i]), "svc.")) {
            text_fmt(out, cap, "%s", conf.search[i] + strlen("svc."));
            return;
        }
    }
}
