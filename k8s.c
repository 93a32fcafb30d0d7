/* The API server as a cluster: puts the files of k8s/ together, and writes their figures. */
#include "k8s.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "k8s/call.h"
#include "k8s/client.h"
#include "k8s/credentials.h"
#include "k8s/watch.h"
#include "lib/text.h"

/* Where a pod finds its service account (kubernetes.io, "Accessing the API from a Pod"). */
#define POD_CREDENTIALS "/var/run/secrets/kubernetes.io/serviceaccount"

/* Returns the URL that a pod finds in its environment, to be freed; NULL and *err when there is
 * none. */
static char *url_of_environment(struct error *err)
{
    const char *host = getenv("KUBERNETES_SERVICE_HOST"), *port = getenv("KUBERNETES_SERVICE_PORT");
    if (!host || !host[0] || !port || !port[0]) {
        error_set(
            err, FAIL_CONFIG,
            "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set, so this is not "
            "a pod of a cluster; name the API server with --kube-url URL, or a directory with "
            "--local DIR (--help tells more)");
        return NULL;
    }
    size_t size = strlen(host) + strlen(port) + sizeof("https://[]:");
    char *url = mem_alloc(size);
    text_fmt(url, size, strchr(host, ':') ? "https://[%s]:%s" : "https://%s:%s", host, port);
    return url;
}

/* ---- metrics ---- */

void k8s_metrics(const struct k8s *k8s, struct buf *out)
{
    static const char *const verbs[] = {"get",    "create", "apply", "patch_status",
                                        "delete", "list",   "watch"};
    static_assert(ARRAY_LEN(verbs) == K8S_VERBS, "every verb has a name");
    const char *name = "tproxy_kube_requests_total";
    metric_head(out, name, METRIC_COUNTER, "Requests to the Kubernetes API, by verb and result.");
    for (size_t i = 0; i < K8S_VERBS; i++) {
        struct metric_label labels[] = {{"verb", verbs[i]}, {"result", "ok"}, {0}};
        metric_count(out, name, labels, k8s->ok[i]);
        for (enum k8s_failure f = 0; f < K8S_FAILURES; f++) {
            labels[1].value = k8s_failure_name(f);
            if (k8s->failed[i][f]) {
                metric_count(out, name, labels, k8s->failed[i][f]);
            }
        }
    }
    metric_counter(out, "tproxy_kube_writes_held_back_total",
                   "Writes that were not sent, because this replica does not lead.",
                   k8s->held_back);
    name = "tproxy_kube_watch_restarts_total";
    metric_head(out, name, METRIC_COUNTER, "Watches that were cut, refused or expired, by kind.");
    for (size_t i = 0; i < K8S_KINDS_MAX && k8s->kinds[i].kind; i++) {
        bool rest = i == K8S_KINDS_MAX - 1;
        struct metric_label labels[] = {{"kind", rest ? "other" : k8s->kinds[i].kind->plural}, {0}};
        metric_count(out, name, labels, k8s->kinds[i].restarts);
    }
    name = "tproxy_kube_objects_cut_total";
    metric_head(out, name, METRIC_COUNTER,
                "Objects that were not read as a whole, because they are too large, by kind.");
    for (size_t i = 0; i < K8S_KINDS_MAX && k8s->kinds[i].kind; i++) {
        bool rest = i == K8S_KINDS_MAX - 1;
        struct metric_label labels[] = {{"kind", rest ? "other" : k8s->kinds[i].kind->plural}, {0}};
        metric_count(out, name, labels, k8s->kinds[i].cut);
    }
    name = "tproxy_kube_request_seconds";
    metric_head(out, name, METRIC_HISTOGRAM,
                "Time of a request to the Kubernetes API, watches not counted.");
    metric_histogram(out, name, NULL, &k8s->latency);
}

/* ---- life ---- */

struct k8s *k8s_new(struct loop *loop, struct dns *dns, const struct k8s_settings *settings,
                    struct error *err)
{
    const char *credentials = settings->credentials;
    char *url = settings->url ? mem_strdup(settings->url) : url_of_environment(err);
    if (!url) {
        return NULL;
    }
    if (!settings->url && !credentials) {
        credentials = POD_CREDENTIALS;
    }
    struct k8s *k8s = mem_zalloc(sizeof(*k8s));
    k8s->cluster = (struct cluster){.watch = k8s_watch_start,
                                    .unwatch = k8s_watch_stop,
                                    .call = k8s_call_start,
                                    .cancel = k8s_call_cancel};
    k8s->reachable_again = k8s_watch_hurry;
    list_init(&k8s->watches);
    list_init(&k8s->calls);
    int res = k8s_client_open(k8s, loop, dns, url, credentials, err);
    free(url);
    if (res == ERR) {
        k8s_free(k8s);
        return NULL;
    }
    return k8s;
}

void k8s_free(struct k8s *k8s)
{
    if (!k8s) {
        return;
    }
    assert(list_empty(&k8s->watches));
    k8s_call_drop_cancelled(k8s);
    k8s_client_close(k8s);
    free(k8s);
}

struct cluster *k8s_cluster(struct k8s *k8s)
{
    return &k8s->cluster;
}

const char *k8s_namespace(const struct k8s *k8s)
{
    return k8s->credentials ? k8s_credentials_namespace(k8s->credentials) : NULL;
}
