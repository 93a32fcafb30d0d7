/* What the Kubernetes API says, as text: refusals, events of a watch, pages of a list
 * (kubernetes.io, "Kubernetes API Concepts"; Status, WatchEvent and ListMeta of
 * k8s.io/apimachinery/pkg/apis/meta/v1). Pure. */
#ifndef TPROXY_K8S_PROTO_H
#define TPROXY_K8S_PROTO_H

#include <stdint.h>

#include "http/proto.h"
#include "lib/base.h"
#include "lib/fail.h"
#include "lib/json.h"
#include "lib/text.h"

/* ---- requests that did not succeed ---- */

enum k8s_failure {
    K8S_UNREACHED,    /* the API server cannot have seen the request */
    K8S_CUT,          /* no complete answer came: it may have been carried out */
    K8S_EXISTS,       /* an object of that name is there already */
    K8S_CONFLICT,     /* the object is not the one that was meant, or has changed */
    K8S_ABSENT,       /* no such object, or no such kind */
    K8S_EXPIRED,      /* the version or the page asked for is too old */
    K8S_UNAUTHORIZED, /* who we are is not known: the token */
    K8S_FORBIDDEN,
    K8S_INVALID, /* the request is refused as it is */
    K8S_BUSY,    /* turned away, not carried out; later it may be */
    K8S_BROKEN,  /* the API server, or what it stands on, failed */
    K8S_FAILURES
};

/* Static storage; for metrics. */
const char *k8s_failure_name(enum k8s_failure failure);

/* Longest wait that the server may ask for. */
#define K8S_RETRY_AFTER_MAX SECONDS(60)

struct k8s_refusal {
    enum k8s_failure failure;
    int64_t retry_after; /* microseconds, 0: it says none */
    struct error err;    /* "Forbidden: services is forbidden: ...", sanitised */
};

/* Of an answer with another status than 2xx: by the reason in its Status, else by the status of
 * HTTP. The body may be anything. */
void k8s_refusal_of_answer(struct k8s_refusal *r, const struct http_head *head, struct str body);

/* Of a Status that came as an event. It may be anything. */
void k8s_refusal_of_status(struct k8s_refusal *r, struct json_value status);

/* Of no (complete) answer. */
void k8s_refusal_of_error(struct k8s_refusal *r, const struct error *err);

/* ---- following ---- */

/* Longest resourceVersion, which is opaque, with its NUL. */
enum { K8S_VERSION_SIZE = 128 };

enum k8s_event_type {
    K8S_EVENT_OBJECT,   /* ADDED, MODIFIED: it is there */
    K8S_EVENT_GONE,     /* DELETED */
    K8S_EVENT_BOOKMARK, /* nothing but a version */
    K8S_EVENT_ERROR,    /* the object is a Status; the last event */
};

struct k8s_event {
    enum k8s_event_type type;
    struct json_value object;
    char version[K8S_VERSION_SIZE]; /* where to go on; empty for an error */
};

/* ERR and *err (FAIL_PROTOCOL) when it is no event. */
int k8s_event_parse(struct k8s_event *event, struct json_value root, struct error *err) warn_unused;

/* Longest token that stands for the rest of a list. */
enum { K8S_CONTINUE_MAX = 16384 };

struct k8s_page {
    char version[K8S_VERSION_SIZE]; /* of the whole list */
    char *next;                     /* token of the next page, the caller's; NULL: the last one */
};

/* Of the text of a list's metadata. ERR and *err (FAIL_PROTOCOL), *page is empty then. */
int k8s_page_parse(struct k8s_page *page, struct str metadata, struct error *err) warn_unused;

#endif
