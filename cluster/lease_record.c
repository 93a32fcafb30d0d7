/* Reads, judges and writes the spec of a Lease. */
#include "cluster/lease_record.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/labels.h"
#include "core/custom_resource.h"
#include "lib/mem.h"

/* leaseTransitions is an int32 of the API. */
enum { TRANSITIONS_MAX = INT32_MAX };

static char *text_in(struct json_value parent, const char *name)
{
    char *text = json_strdup(json_get(parent, name), NULL);
    return text ? text : mem_strdup("");
}

static int64_t number_in(struct json_value parent, const char *name, int64_t least)
{
    int64_t n;
    return json_int64(json_get(parent, name), &n) == OK && n >= least ? n : 0;
}

void lease_record_read(struct lease_record *r, struct json_value object)
{
    struct json_value metadata = json_get(object, "metadata"), spec = json_get(object, "spec");
    lease_record_clear(r);
    r->uid = json_strdup(json_get(metadata, "uid"), NULL);
    r->version = json_strdup(json_get(metadata, "resourceVersion"), NULL);
    r->holder = text_in(spec, "holderIdentity");
    r->acquired = text_in(spec, "acquireTime");
    r->duration = number_in(spec, "leaseDurationSeconds", 1);
    r->transitions = number_in(spec, "leaseTransitions", 0);
    r->number = object_version(object);
    r->digest = json_digest(spec);
}

void lease_record_clear(struct lease_record *r)
{
    free(r->uid);
    free(r->version);
    free(r->holder);
    free(r->acquired);
    *r = (struct lease_record){0};
}

bool lease_record_equal(const struct lease_record *a, const struct lease_record *b)
{
    return a->holder && b->holder && a->digest == b->digest && text_same(a->uid, b->uid);
}

bool lease_record_held_by(const struct lease_record *r, const char *identity)
{
    return r->holder && strcmp(r->holder, identity) == 0;
}

bool lease_record_released(const struct lease_record *r)
{
    return r->holder && !r->holder[0] && r->duration == 1;
}

int64_t lease_record_wait(const struct lease_record *r, int64_t duration)
{
    if (r->duration > LEASE_DURATION_MAX / SECONDS(1)) {
        return LEASE_DURATION_MAX;
    }
    return SECONDS(r->duration) > duration ? SECONDS(r->duration) : duration;
}

/* Writes the metadata. uid and resourceVersion have the API server refuse the patch when the object
 * is another one, or has changed. */
static int write_metadata(struct buf *out, const char *namespace, const char *name,
                          const struct lease_record *old)
{
    if (json_fmt(out,
                 "{'apiVersion':'coordination.k8s.io/v1','kind':'Lease','metadata':{"
                 "'name':%s,'namespace':%s,'labels':{"
                 "'" LABEL_MANAGED_BY "':'" LABEL_MANAGER "','" LABEL_HOME "':%s}",
                 name, namespace, namespace) < 0) {
        return ERR;
    }
    if (old && json_fmt(out, ",'uid':%s,'resourceVersion':%s", old->uid ? old->uid : "",
                        old->version ? old->version : "") < 0) {
        return ERR;
    }
    return buf_fmt(out, "},");
}

int lease_record_write(struct buf *out, const char *namespace, const char *name,
                       const struct lease_record *old, const struct lease_entry *entry)
{
    int64_t n = entry->transitions;
    if (write_metadata(out, namespace, name, old) < 0) {
        return ERR;
    }
    return json_fmt(out,
                    "'spec':{'holderIdentity':%s,'leaseDurationSeconds':%d,'acquireTime':%s,"
                    "'renewTime':%s,'leaseTransitions':%d}}",
                    entry->holder, (int)entry->duration, entry->acquired, entry->renewed,
                    n < TRANSITIONS_MAX ? (int)n : TRANSITIONS_MAX);
}
