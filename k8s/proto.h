/* Reads what the Kubernetes API sends: refusals, events of a watch, pages of a list (kubernetes.io,
 * "Kubernetes API Concepts"; Status, WatchEvent and ListMeta of
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
    K8S_CUT,          /* no complete answer came; the request may have been carried out */
    K8S_EXISTS,       /* an object of that name exists already */
    K8S_CONFLICT,     /* the object has changed, or is another one of the same name */
    K8S_ABSENT,       /* there is no such object, or no such kind */
    K8S_EXPIRED,      /* the requested version or page is too old */
    K8S_UNAUTHORIZED, /* the API server does not accept our token */
    K8S_FORBIDDEN,
    K8S_INVALID, /* the same request will be refused again */
    K8S_BUSY,    /* not carried out, because the API server is busy; a later request may succeed */
    K8S_BROKEN,  /* the API server, or a server that it needs, failed */
    K8S_FAILURES
};

/* Returns the name of a failure, for metrics; static storage. */
const char *k8s_failure_name(enum k8s_failure failure);

/* Maximum of retry_after. A longer wait that the server asks for is cut to it. */
#define K8S_RETRY_AFTER_MAX SECONDS(60)

struct k8s_refusal {
    enum k8s_failure failure;
    int64_t retry_after; /* microseconds; 0: the server asks for no wait */
    struct error err;    /* "Forbidden: services is forbidden: ...", sanitised */
};

/* Fills *r from an answer whose HTTP status is not 2xx. The reason in its Status decides, or else
 * the HTTP status. The body may be anything. */
void k8s_refusal_of_answer(struct k8s_refusal *r, const struct http_head *head, struct str body);

/* Fills *r from a Status that came as an event. The value may be anything. */
void k8s_refusal_of_status(struct k8s_refusal *r, struct json_value status);

/* Fills *r from the error of a request without a complete answer. */
void k8s_refusal_of_error(struct k8s_refusal *r, const struct error *err);

/* ---- watches and lists ---- */

/* Maximum size of a resourceVersion, which is an opaque text, with its NUL. */
enum { K8S_VERSION_SIZE = 128 };

enum k8s_event_type {
    K8S_EVENT_OBJECT,   /* ADDED, MODIFIED: the object exists */
    K8S_EVENT_GONE,     /* DELETED */
    K8S_EVENT_BOOKMARK, /* nothing but a version */
    K8S_EVENT_ERROR,    /* the object is a Status; the last event */
};

struct k8s_event {
    enum k8s_event_type type;
    struct json_value object;
    char version[K8S_VERSION_SIZE]; /* the version to continue from; empty for an error */
};

/* Reads an event. event->object is part of the document of `root`. Returns ERR and *err
 * (FAIL_PROTOCOL) when `root` is not an event. */
int k8s_event_parse(struct k8s_event *event, struct json_value root, struct error *err) warn_unused;

/* Maximum length in octets of the token that stands for the rest of a list. */
enum { K8S_CONTINUE_MAX = 16384 };

struct k8s_page {
    char version[K8S_VERSION_SIZE]; /* of the whole list */
    char *next;                     /* token of the next page, the caller's; NULL: the last one */
};

/* Reads the page from the text of a list's metadata. Returns ERR and *err (FAIL_PROTOCOL) when the
 * version or the token cannot be used; page->next is NULL then. */
int k8s_page_parse(struct k8s_page *page, struct str metadata, struct error *err) warn_unused;

#endif
