/* Figures for Prometheus, text format 0.0.4. */
#include "lib/metric.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>

#include "lib/text.h"

static const struct {
    int64_t us;
    const char *seconds;
} bounds[] = {
    {MILLIS(1), "0.001"},  {2500, "0.0025"},     {MILLIS(5), "0.005"},  {MILLIS(10), "0.01"},
    {MILLIS(25), "0.025"}, {MILLIS(50), "0.05"}, {MILLIS(100), "0.1"},  {MILLIS(250), "0.25"},
    {MILLIS(500), "0.5"},  {SECONDS(1), "1"},    {MILLIS(2500), "2.5"}, {SECONDS(5), "5"},
    {SECONDS(10), "10"},   {SECONDS(30), "30"},
};
_Static_assert(ARRAY_LEN(bounds) == METRIC_BUCKETS, "one count a bound");

static int add(struct buf *out, const char *s)
{
    return buf_add(out, s, strlen(s));
}

/* Appends text with backslash, LF and, in label values, the quote escaped. */
static int add_escaped(struct buf *out, const char *text, bool quote)
{
    struct str s = str_of(text);
    int res = OK;
    while (s.n && res == OK) {
        size_t n = text_utf8_length(s);
        if (s.p[0] == '\n') {
            res = add(out, "\\n");
        } else if (s.p[0] == '\\' || (quote && s.p[0] == '"')) {
            res = buf_fmt(out, "\\%c", s.p[0]);
        } else {
            res = n ? buf_add(out, s.p, n) : add(out, "?");
        }
        n = n ? n : 1;
        s.p += n;
        s.n -= n;
    }
    return res;
}

/* Removes what was added of a line that does not fit. */
static void undo(struct buf *out, size_t length)
{
    out->end = out->start + length;
}

void metric_head(struct buf *out, const char *name, enum metric_type type, const char *help)
{
    static const char *const names[] = {"counter", "gauge", "histogram"};
    size_t before = buf_len(out);
    if (buf_fmt(out, "# HELP %s ", name) == ERR || add_escaped(out, help, false) == ERR ||
        buf_fmt(out, "\n# TYPE %s %s\n", name, names[type]) == ERR) {
        undo(out, before);
    }
}

static int add_label(struct buf *out, char before, const struct metric_label *label)
{
    if (buf_fmt(out, "%c%s=\"", before, label->name) == ERR ||
        add_escaped(out, label->value, true) == ERR) {
        return ERR;
    }
    return add(out, "\"");
}

/* Appends a line: name and suffix, labels, one more label unless `last` is NULL, and the value as
 * text. A line that does not fit is left out. */
static void sample(struct buf *out, const char *name, const char *suffix,
                   const struct metric_label *labels, const struct metric_label *last,
                   const char *value)
{
    size_t before = buf_len(out);
    int res = buf_fmt(out, "%s%s", name, suffix);
    char sep = '{';
    for (; labels && labels->name && res == OK; labels++) {
        res = add_label(out, sep, labels);
        sep = ',';
    }
    if (last && res == OK) {
        res = add_label(out, sep, last);
        sep = ',';
    }
    if (res == ERR || buf_fmt(out, "%s %s\n", sep == ',' ? "}" : "", value) == ERR) {
        undo(out, before);
    }
}

void metric_count(struct buf *out, const char *name, const struct metric_label *labels,
                  uint64_t value)
{
    char text[24];
    text_fmt(text, sizeof(text), "%" PRIu64, value);
    sample(out, name, "", labels, NULL, text);
}

void metric_value(struct buf *out, const char *name, const struct metric_label *labels,
                  double value)
{
    char text[32];
    if (isfinite(value)) {
        text_fmt(text, sizeof(text), "%.12g", value);
    } else if (isnan(value)) {
        text_fmt(text, sizeof(text), "NaN");
    } else {
        text_fmt(text, sizeof(text), "%s", value > 0 ? "+Inf" : "-Inf");
    }
    sample(out, name, "", labels, NULL, text);
}

void metric_results(struct buf *out, const char *name, const char *help,
                    const uint64_t results[FAIL_COUNT])
{
    metric_head(out, name, METRIC_COUNTER, help);
    for (size_t i = 0; i < FAIL_COUNT; i++) {
        const char *result = i == FAIL_NONE ? "ok" : fail_name((enum fail)i);
        metric_count(out, name, (struct metric_label[]){{"result", result}, {0}}, results[i]);
    }
}

void metric_counter(struct buf *out, const char *name, const char *help, uint64_t value)
{
    metric_head(out, name, METRIC_COUNTER, help);
    metric_count(out, name, NULL, value);
}

void metric_gauge(struct buf *out, const char *name, const char *help, double value)
{
    metric_head(out, name, METRIC_GAUGE, help);
    metric_value(out, name, NULL, value);
}

void metric_observe(struct metric_histogram *h, int64_t us)
{
    size_t i = 0;
    us = us < 0 ? 0 : us;
    while (i < METRIC_BUCKETS && us > bounds[i].us) {
        i++;
    }
    h->counts[i]++;
    h->sum += us;
}

void metric_histogram(struct buf *out, const char *name, const struct metric_label *labels,
                      const struct metric_histogram *h)
{
    char text[32];
    uint64_t total = 0;
    for (size_t i = 0; i <= METRIC_BUCKETS; i++) {
        struct metric_label le = {"le", i < METRIC_BUCKETS ? bounds[i].seconds : "+Inf"};
        total += h->counts[i];
        text_fmt(text, sizeof(text), "%" PRIu64, total);
        sample(out, name, "_bucket", labels, &le, text);
    }
    text_fmt(text, sizeof(text), "%" PRId64 ".%06d", h->sum / 1000000, (int)(h->sum % 1000000));
    sample(out, name, "_sum", labels, NULL, text);
    text_fmt(text, sizeof(text), "%" PRIu64, total);
    sample(out, name, "_count", labels, NULL, text);
}
