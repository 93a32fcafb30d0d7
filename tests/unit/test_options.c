/* Tests tproxy/options: the modes and their defaults. The integration tests check the messages
 * about bad flags. */
#include "tproxy/options.h"

#include <errno.h>
#include <getopt.h>

#include "lib/sys.h"
#include "tests/unit/check.h"

enum { ARGUMENTS_MAX = 6 };

static struct options options;

static void parse(const char *const arguments[], size_t n)
{
    static char texts[ARGUMENTS_MAX + 1][40];
    char *argv[ARGUMENTS_MAX + 2] = {texts[0]};
    assert_true(n <= ARGUMENTS_MAX);
    text_fmt(texts[0], sizeof(texts[0]), "tproxy");
    for (size_t i = 0; i < n; i++) {
        argv[i + 1] = texts[i + 1];
        text_fmt(texts[i + 1], sizeof(texts[0]), "%s", arguments[i]);
    }
    optind = 0; /* so that getopt starts again */
    options_parse(&options, (int)n + 1, argv);
}

#define PARSE(...)                                                                                 \
    parse((const char *const[]){__VA_ARGS__}, ARRAY_LEN(((const char *const[]){__VA_ARGS__})))

static void expect(bool local, const char *listen, const char *admin)
{
    struct addr_text address = addr_text(&options.listen);
    assert_int_equal(options.local_dir != NULL, local);
    assert_int_equal(options.claim_all, local);
    assert_int_equal(options.pop3.allow_local, local);
    assert_int_equal(options.first_port, local ? 1110 : 16384);
    assert_int_equal(options.service_delay, local ? 0 : SECONDS(2));
    assert_string_equal(address.s, listen);
    assert_string_equal(options.admin, admin);
}

/* In local mode only this machine is admitted, however the flag is written. */
static void local_mode(void **state)
{
    (void)state;
    PARSE("--local", "dir");
    expect(true, "127.0.0.1", "127.0.0.1:9494");
    PARSE("--local=dir");
    expect(true, "127.0.0.1", "127.0.0.1:9494");
    PARSE("--loc", "dir");
    expect(true, "127.0.0.1", "127.0.0.1:9494");
    PARSE("--admin", "[::]:80", "--local", "dir", "--listen", "0.0.0.0");
    expect(true, "0.0.0.0", "[::]:80");
}

static void cluster_mode(void **state)
{
    (void)state;
    PARSE("--namespace", "n");
    expect(false, "::", "[::]:9494");
    PARSE("--ca-file", "--local");
    expect(false, "::", "[::]:9494");
    assert_string_equal(options.ca_file, "--local");
}

/* The periods are those of client-go. */
static void election(void **state)
{
    (void)state;
    PARSE("--namespace", "n");
    assert_false(options.leader_elect);
    assert_string_equal(options.lease_name, "tproxy");
    assert_int_equal(options.lease_duration, SECONDS(15));
    assert_int_equal(options.renew_deadline, SECONDS(10));
    assert_int_equal(options.retry_period, SECONDS(2));
    PARSE("--leader-elect", "--leader-elect-resource-name=x", "--leader-elect-lease-duration=3",
          "--leader-elect-renew-deadline=2", "--leader-elect-retry-period=1");
    assert_true(options.leader_elect);
    assert_string_equal(options.lease_name, "x");
    assert_int_equal(options.lease_duration, SECONDS(3));
    assert_int_equal(options.renew_deadline, SECONDS(2));
    assert_int_equal(options.retry_period, SECONDS(1));
}

static int no_ipv6(int domain, int type, int protocol)
{
    (void)type, (void)protocol;
    assert_int_equal(domain, AF_INET6);
    errno = EAFNOSUPPORT;
    return -1;
}

static void without_ipv6(void **state)
{
    const struct sys *real = sys;
    struct sys fake = *sys;
    (void)state;
    fake.socket = no_ipv6;
    sys = &fake;
    PARSE("--namespace", "n");
    sys = real;
    expect(false, "0.0.0.0", "0.0.0.0:9494");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(local_mode),
        cmocka_unit_test(cluster_mode),
        cmocka_unit_test(election),
        cmocka_unit_test(without_ipv6),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
