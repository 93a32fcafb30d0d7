/* The Kubernetes API over HTTP/1.1: credentials, list and watch, create, change, delete. The module
 * knows no kind by name (kubernetes.io, "Kubernetes API Concepts"). Everything that is followed is
 * also listed anew once an hour. */
#ifndef TPROXY_K8S_H
#define TPROXY_K8S_H

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/fail.h"

struct cluster;
struct dns;
struct k8s;
struct loop;

struct k8s_settings {
    /* "https://10.96.0.1:443", "http://127.0.0.1:8001"; NULL: the one in the environment that
     * Kubernetes gives to a container (KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT). */
    const char *url;
    /* Directory with the files token, ca.crt and namespace, which are read again when they change.
     * NULL: that of a pod, if there is no `url` either; with an http URL no credentials are sent
     * then. */
    const char *credentials;
};

/* Creates the client; sends nothing yet. Returns NULL and sets *err (FAIL_CONFIG), which names what
 * is missing or malformed and the flag that would help. */
struct k8s *k8s_new(struct loop *loop, struct dns *dns, const struct k8s_settings *settings,
                    struct error *err);

/* Frees it. All watches and calls must have ended. NULL is allowed. */
void k8s_free(struct k8s *k8s);

/* Returns the API server as a cluster; valid until k8s_free. */
struct cluster *k8s_cluster(struct k8s *k8s);

/* Returns the namespace in the credentials directory, valid until k8s_free; NULL when there is
 * none. */
const char *k8s_namespace(const struct k8s *k8s);

/* Appends the metrics of requests and watches. */
void k8s_metrics(const struct k8s *k8s, struct buf *out);

#endif
