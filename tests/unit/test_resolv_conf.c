/* Tests lib/resolv_conf: resolv.conf and hosts, whole and cut at every byte. */
#include "lib/resolv_conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct resolv_conf conf;

static void parse(const char *text)
{
    resolv_conf_parse(&conf, str_of(text));
}

static void expect_server(size_t i, const char *text)
{
    assert_true(i < conf.server_count);
    assert_string_equal(resolv_server_text(&conf.servers[i]).s, text);
}

static void defaults(void **state)
{
    (void)state;
    parse("");
    assert_int_equal(conf.server_count, 1);
    expect_server(0, "127.0.0.1");
    assert_int_equal(ntohs(conf.servers[0].v4.sin_port), 53);
    assert_int_equal(conf.search_count, 0);
    assert_int_equal(conf.ndots, 1);
    assert_int_equal(conf.attempts, 2);
    assert_int_equal(conf.timeout, SECONDS(5));
    assert_false(conf.rotate || conf.use_tcp || conf.no_ipv6);
}

static void as_in_a_pod(void **state)
{
    (void)state;
    static const char text[] = "search ns.svc.cluster.local svc.cluster.local cluster.local\n"
                               "nameserver 10.96.0.10\n"
                               "options ndots:5\n";
    parse(text);
    expect_server(0, "10.96.0.10");
    assert_int_equal(conf.search_count, 3);
    assert_string_equal(conf.search[0], "ns.svc.cluster.local");
    assert_string_equal(conf.search[2], "cluster.local");
    assert_int_equal(conf.ndots, 5);
    for (size_t n = 0; n < sizeof(text); n++) {
        char *copy = malloc(n + 1);
        memcpy(copy, text, n);
        resolv_conf_parse(&conf, (struct str){copy, n});
        assert_int_equal(conf.server_count, 1);
        free(copy);
    }
}

static void servers(void **state)
{
    (void)state;
    parse("# nameserver 1.1.1.1\n"
          ";nameserver 1.1.1.2\n"
          "nameserver\n"
          "nameserver example.com\n"
          "nameserverx 1.1.1.3\n"
          "nameserver\t 10.0.0.1 \t# the first\r\n"
          "nameserver fe80::1%1\n"
          "nameserver 127.0.0.1#5353\n"
          "nameserver 10.0.0.4");
    assert_int_equal(conf.server_count, 3);
    expect_server(0, "10.0.0.1");
    expect_server(1, "fe80::1%1");
    expect_server(2, "127.0.0.1:5353");
    parse("nameserver ::1#54\nnameserver 1.1.1.1#0\nnameserver 1.1.1.1#65536\nnameserver "
          "1.1.1.1#x\n");
    assert_int_equal(conf.server_count, 1);
    expect_server(0, "[::1]:54");
}

static void search(void **state)
{
    (void)state;
    parse("search a b\ndomain c\n");
    assert_int_equal(conf.search_count, 1);
    assert_string_equal(conf.search[0], "c");
    parse("domain c d\nsearch a.  . b/ b # c\n");
    assert_int_equal(conf.search_count, 2);
    assert_string_equal(conf.search[0], "a");
    assert_string_equal(conf.search[1], "b");
    parse("search a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a\n");
    assert_int_equal(conf.search_count, RESOLV_MAX_SEARCH);
}

static void options(void **state)
{
    (void)state;
    parse("options rotate timeout:1 attempts:1 ndots:0 use-vc no-aaaa edns0\n");
    assert_true(conf.rotate && conf.use_tcp && conf.no_ipv6);
    assert_int_equal(conf.timeout, SECONDS(1));
    assert_int_equal(conf.attempts, 1);
    assert_int_equal(conf.ndots, 0);
    parse("options timeout:99 attempts:99 ndots:99\n");
    assert_int_equal(conf.timeout, SECONDS(30));
    assert_int_equal(conf.attempts, 5);
    assert_int_equal(conf.ndots, 15);
    parse("options timeout:0 attempts:0\noptions ndots:2\n");
    assert_int_equal(conf.timeout, SECONDS(1));
    assert_int_equal(conf.attempts, 1);
    assert_int_equal(conf.ndots, 2);
    parse("options timeout:-1 attempts: ndots timeout:x rotate:1\n");
    assert_int_equal(conf.timeout, SECONDS(5));
    assert_int_equal(conf.attempts, 2);
    assert_false(conf.rotate);
}

static struct hosts hosts;

static void expect_hosts(const char *name, const char *a, const char *b)
{
    union addr addrs[4];
    size_t n = hosts_find(&hosts, name, addrs, ARRAY_LEN(addrs));
    assert_int_equal(n, (a ? 1 : 0) + (b ? 1 : 0));
    if (a) {
        assert_string_equal(addr_text(&addrs[0]).s, a);
    }
    if (b) {
        assert_string_equal(addr_text(&addrs[1]).s, b);
    }
}

static void hosts_file(void **state)
{
    (void)state;
    static const char text[] = "127.0.0.1\tlocalhost\n"
                               "# 1.1.1.1 no\n"
                               "\n"
                               "   10.0.0.1  Mail.Example mail#mailx\n"
                               "fd00::1 mail.example # a comment\r\n"
                               "nonsense mail\n"
                               "10.0.0.2\n"
                               "10.0.0.3 last";
    hosts_parse(&hosts, str_of(text));
    expect_hosts("localhost", "127.0.0.1", NULL);
    expect_hosts("mail.example", "10.0.0.1", "fd00::1");
    expect_hosts("MAIL.example.", "10.0.0.1", "fd00::1");
    expect_hosts("mail", "10.0.0.1", NULL);
    expect_hosts("mailx", NULL, NULL);
    expect_hosts("no", NULL, NULL);
    expect_hosts("last", "10.0.0.3", NULL);
    expect_hosts("", NULL, NULL);
    union addr one;
    assert_int_equal(hosts_find(&hosts, "mail.example", &one, 1), 1);
    for (size_t n = 0; n < sizeof(text); n++) {
        char *copy = malloc(n + 1);
        memcpy(copy, text, n);
        hosts_parse(&hosts, (struct str){copy, n});
        free(copy);
        assert_true(hosts.count <= 5);
    }
    hosts_free(&hosts);
    hosts_free(&hosts);
    expect_hosts("localhost", NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults), cmocka_unit_test(as_in_a_pod), cmocka_unit_test(servers),
        cmocka_unit_test(search),   cmocka_unit_test(options),     cmocka_unit_test(hosts_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
