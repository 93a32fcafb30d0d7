/* Figures for Prometheus, text format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats).
 * There is no registry: modules keep plain counters and render them when asked, in functions like
 * `void x_metrics(struct buf *out)`. A line that does not fit below out->max is left out as a
 * whole.
 *
 *     metric_counter(out, "tp_tcp_connections_total", "TCP connections accepted.", n);
 *
 *     metric_head(out, "tproxy_logins_total", METRIC_COUNTER, "Logins by result.");
 *     metric_count(out, "tproxy_logins_total", (struct metric_label[]){{"result", "ok"}, {0}}, n);
 *     metric_count(out, "tproxy_logins_total", (struct metric_label[]){{"result", "dns"}, {0}}, m);
 */
#ifndef TPROXY_LIB_METRIC_H
#define TPROXY_LIB_METRIC_H

#include <stdint.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/fail.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

/* A label. A list of labels ends with {0}; NULL is the empty list. The name is
 * [a-zA-Z_][a-zA-Z0-9_]*. The value may be any text: it is escaped, and bytes that are not UTF-8,
 * which would cost the whole scrape, become '?'. */
struct metric_label {
    const char *name, *value;
};

/* Writes the HELP and TYPE lines of a family: once, before its samples, which must follow each
 * other. */
void metric_head(struct buf *out, const char *name, enum metric_type type, const char *help);

/* Write one sample. metric_count is exact, metric_value rounds to 12 digits. */
void metric_count(struct buf *out, const char *name, const struct metric_label *labels,
                  uint64_t value);
void metric_value(struct buf *out, const char *name, const struct metric_label *labels,
                  double value);

/* Writes a counter of attempts by `result`: "ok" (FAIL_NONE), or the class of the failure. */
void metric_results(struct buf *out, const char *name, const char *help,
                    const uint64_t results[FAIL_COUNT]);

/* Write head and sample of a family that has just one sample. */
void metric_counter(struct buf *out, const char *name, const char *help, uint64_t value);
void metric_gauge(struct buf *out, const char *name, const char *help, double value);

/* Latencies in fixed buckets from 1 ms to 30 s. Zero-initialise. */
enum { METRIC_BUCKETS = 14 };
struct metric_histogram {
    uint64_t counts[METRIC_BUCKETS + 1]; /* not cumulative; the last has no bound */
    int64_t sum;                         /* microseconds */
};

/* Counts one latency in microseconds; a negative one counts as 0. */
void metric_observe(struct metric_histogram *h, int64_t us);

/* Writes the samples _bucket, _sum and _count, in seconds. The head (METRIC_HISTOGRAM) comes
 * before, as for every family. */
void metric_histogram(struct buf *out, const char *name, const struct metric_label *labels,
                      const struct metric_histogram *h);

#endif
