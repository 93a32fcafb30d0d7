/* Tests lib/addr: address literals, their printed form, and the classes of addresses. */
#include "lib/addr.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void literals(void **state)
{
    (void)state;
    static const struct {
        const char *text, *printed;
    } good[] = {
        {"10.0.0.1", "10.0.0.1"},
        {"::1", "::1"},
        {"[::1]", "::1"},
        {"2001:DB8::1", "2001:db8::1"},
        {"fe80::1%7", "fe80::1%7"},
        {"[fe80::1%7]", "fe80::1%7"},
        {"fe80::1%lo", "fe80::1%1"},
        {"::ffff:1.2.3.4", "::ffff:1.2.3.4"},
    };
    static const char *const bad[] = {
        "",
        "[]",
        "[",
        "localhost",
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.256",
        "127.1",
        "0x7f.1",
        "[1.2.3.4]",
        "1.2.3.4%1",
        ":::",
        "[::1",
        "::1]",
        "::1%",
        "::1%no-such-interface",
        "1::2::3",
        " ::1",
        "::1 ",
        "%",
        "::1%99999999999",
        "0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000",
    };
    union addr addr;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(addr_parse(str_of(good[i].text), &addr), OK);
        assert_string_equal(addr_text(&addr).s, good[i].printed);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(addr_parse(str_of(bad[i]), &addr), ERR);
    }
    assert_int_equal(addr_parse((struct str){"1.2.3.4\0.5", 9}, &addr), ERR);
}

static void ports(void **state)
{
    (void)state;
    union addr addr;
    assert_int_equal(addr_parse(str_of("10.0.0.1"), &addr), OK);
    addr_set_port(&addr, 110);
    assert_string_equal(addr_text(&addr).s, "10.0.0.1:110");
    assert_int_equal(addr_len(&addr), sizeof(struct sockaddr_in));
    assert_int_equal(addr_parse(str_of("fe80::1%3"), &addr), OK);
    addr_set_port(&addr, 995);
    assert_string_equal(addr_text(&addr).s, "[fe80::1%3]:995");
    assert_int_equal(addr_len(&addr), sizeof(struct sockaddr_in6));
}

static void objections(void **state)
{
    (void)state;
    static const struct {
        const char *addr, *objection;
    } table[] = {
        {"10.0.0.1", NULL},
        {"128.0.0.1", NULL},
        {"169.253.0.1", NULL},
        {"::ffff:10.0.0.1", NULL},
        {"fd00::1", NULL},
        {"2001:db8::1", NULL},
        {"127.0.0.1", "a loopback address"},
        {"127.255.255.254", "a loopback address"},
        {"::1", "a loopback address"},
        {"::ffff:127.0.0.1", "a loopback address"},
        {"0.0.0.0", "an unspecified address"},
        {"0.1.2.3", "an unspecified address"},
        {"::", "an unspecified address"},
        {"::ffff:0.0.0.0", "an unspecified address"},
        {"169.254.169.254", "a link-local address"},
        {"fe80::1", "a link-local address"},
        {"febf::1", "a link-local address"},
        {"::ffff:169.254.1.1", "a link-local address"},
        {"224.0.0.1", "a multicast address"},
        {"239.255.255.255", "a multicast address"},
        {"ff02::1", "a multicast address"},
        {"::ffff:224.0.0.1", "a multicast address"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        union addr addr;
        assert_int_equal(addr_parse(str_of(table[i].addr), &addr), OK);
        const char *got = addr_objection(&addr, false);
        if (table[i].objection) {
            assert_non_null(got);
            assert_string_equal(got, table[i].objection);
            bool multicast = strstr(table[i].objection, "multicast");
            assert_int_equal(addr_objection(&addr, true) != NULL, multicast);
        } else {
            assert_null(got);
            assert_null(addr_objection(&addr, true));
        }
    }
}

/* `in` and `expected` are strings of "4" and "6": the families as given and as sorted. */
static void expect_order(const char *in, size_t cap, const char *expected)
{
    union addr addrs[16], out[16];
    char got[17] = "";
    size_t n = strlen(in);
    for (size_t i = 0; i < n; i++) {
        uint32_t number[4] = {0, 0, 0, (uint32_t)i};
        addrs[i] = in[i] == '4' ? addr_v4(&number[3]) : addr_v6(number);
    }
    size_t count = addr_interleave(out, cap, addrs, n);
    for (size_t i = 0; i < count; i++) {
        got[i] = out[i].sa.sa_family == AF_INET ? '4' : '6';
    }
    assert_string_equal(got, expected);
}

static void order(void **state)
{
    (void)state;
    expect_order("", 16, "");
    expect_order("4", 16, "4");
    expect_order("444", 16, "444");
    expect_order("46", 16, "64");
    expect_order("444466", 16, "646444");
    expect_order("666644", 16, "646466");
    expect_order("666644", 3, "646");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(literals),
        cmocka_unit_test(ports),
        cmocka_unit_test(objections),
        cmocka_unit_test(order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
