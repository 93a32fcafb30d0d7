/* Tests lib/metric: the Prometheus text as a scraper gets it. */
#include "lib/metric.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct buf out;

static int setup(void **state)
{
    (void)state;
    buf_init(&out, 65536);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    buf_free(&out);
    return 0;
}

static void expect(const char *text)
{
    assert_int_equal(buf_add(&out, "", 1), OK);
    assert_string_equal(buf_str(&out).p, text);
}

static void families(void **state)
{
    (void)state;
    metric_counter(&out, "a_total", "How many.", UINT64_MAX);
    metric_gauge(&out, "b", "Line\nand \\ and \"quote\".", 0.25);
    metric_head(&out, "c", METRIC_COUNTER, "By result.");
    metric_count(&out, "c", (struct metric_label[]){{"result", "ok"}, {0}}, 3);
    metric_count(&out, "c", (struct metric_label[]){{"result", "dns"}, {"x", ""}, {0}}, 0);
    expect(
        "# HELP a_total How many.\n# TYPE a_total counter\na_total 18446744073709551615\n"
        "# HELP b Line\\nand \\\\ and \"quote\".\n# TYPE b gauge\nb 0.25\n"
        "# HELP c By result.\n# TYPE c counter\nc{result=\"ok\"} 3\nc{result=\"dns\",x=\"\"} 0\n");
}

/* There is one sample for each class of failure, and one for success. */
static void results(void **state)
{
    (void)state;
    uint64_t counts[FAIL_COUNT] = {[FAIL_NONE] = 7, [FAIL_INTERNAL] = 2};
    metric_results(&out, "r_total", "By result.", counts);
    struct str s = buf_str(&out);
    static const char first[] =
        "# HELP r_total By result.\n# TYPE r_total counter\nr_total{result=\"ok\"} 7\n";
    static const char last[] = "\nr_total{result=\"internal\"} 2\n";
    size_t lines = 0;
    for (size_t i = 0; i < s.n; i++) {
        lines += s.p[i] == '\n';
    }
    assert_int_equal(lines, 2 + FAIL_COUNT);
    assert_memory_equal(s.p, first, strlen(first));
    assert_memory_equal(s.p + s.n - strlen(last), last, strlen(last));
}

static void numbers(void **state)
{
    (void)state;
    metric_value(&out, "v", NULL, 0);
    metric_value(&out, "v", NULL, -1.5);
    metric_value(&out, "v", NULL, 123456789012.0);
    metric_value(&out, "v", NULL, 1e300 * 1e10);
    metric_value(&out, "v", NULL, -1e300 * 1e10);
    metric_value(&out, "v", NULL, __builtin_nan(""));
    expect("v 0\nv -1.5\nv 123456789012\nv +Inf\nv -Inf\nv NaN\n");
}

static void hostile_labels(void **state)
{
    (void)state;
    metric_count(&out, "a", (struct metric_label[]){{"l", "a\"b\\c\nd\xff\xc3\xa9\xc3"}, {0}}, 1);
    expect("a{l=\"a\\\"b\\\\c\\nd?\xc3\xa9?\"} 1\n");
}

static void histogram(void **state)
{
    (void)state;
    struct metric_histogram h = {0};
    metric_observe(&h, -5);
    metric_observe(&h, MILLIS(1));
    metric_observe(&h, MILLIS(1) + 1);
    metric_observe(&h, SECONDS(30));
    metric_observe(&h, SECONDS(31));
    metric_histogram(&out, "h", (struct metric_label[]){{"r", "ok"}, {0}}, &h);
    expect("h_bucket{r=\"ok\",le=\"0.001\"} 2\nh_bucket{r=\"ok\",le=\"0.0025\"} 3\n"
           "h_bucket{r=\"ok\",le=\"0.005\"} 3\nh_bucket{r=\"ok\",le=\"0.01\"} 3\n"
           "h_bucket{r=\"ok\",le=\"0.025\"} 3\nh_bucket{r=\"ok\",le=\"0.05\"} 3\n"
           "h_bucket{r=\"ok\",le=\"0.1\"} 3\nh_bucket{r=\"ok\",le=\"0.25\"} 3\n"
           "h_bucket{r=\"ok\",le=\"0.5\"} 3\nh_bucket{r=\"ok\",le=\"1\"} 3\n"
           "h_bucket{r=\"ok\",le=\"2.5\"} 3\nh_bucket{r=\"ok\",le=\"5\"} 3\n"
           "h_bucket{r=\"ok\",le=\"10\"} 3\nh_bucket{r=\"ok\",le=\"30\"} 4\n"
           "h_bucket{r=\"ok\",le=\"+Inf\"} 5\nh_sum{r=\"ok\"} 61.002001\nh_count{r=\"ok\"} 5\n");
}

static void histogram_without_labels(void **state)
{
    (void)state;
    struct metric_histogram h = {0};
    metric_histogram(&out, "h", NULL, &h);
    struct str s = buf_str(&out);
    assert_memory_equal(s.p, "h_bucket{le=\"0.001\"} 0\n", 23);
    assert_memory_equal(s.p + s.n - 28, " 0\nh_sum 0.000000\nh_count 0\n", 28);
}

/* At every maximum, the text consists of whole lines. */
static void bound(void **state)
{
    (void)state;
    struct metric_histogram h = {0};
    for (size_t max = 1; max < 700; max++) {
        struct buf b;
        buf_init(&b, max);
        metric_gauge(&b, "g", "Help.", 1);
        metric_count(&b, "c", (struct metric_label[]){{"l", "value"}, {0}}, 12345);
        metric_histogram(&b, "h", NULL, &h);
        assert_true(buf_len(&b) <= max);
        assert_true(buf_len(&b) == 0 || b.data[b.end - 1] == '\n');
        buf_free(&b);
    }
}

int main(void)
{
#define WITH_BUF(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH_BUF(families),       WITH_BUF(results),   WITH_BUF(numbers),
        WITH_BUF(hostile_labels), WITH_BUF(histogram), WITH_BUF(histogram_without_labels),
        WITH_BUF(bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
