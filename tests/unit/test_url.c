/* Tests lib/url: good URLs, refused URLs, encodings. */
#include "lib/url.h"

#include <string.h>

#include "tests/unit/check.h"

/* ---- URLs ---- */

static void urls(void **state)
{
    (void)state;
    static const struct {
        const char *text, *host, *authority, *path, *query;
        bool https;
        uint16_t port;
    } good[] = {
        {"https://a.example", "a.example", "a.example", "/", "", true, 443},
        {"HTTP://A:8080/", "A", "A:8080", "/", "", false, 8080},
        {"http://h:/p/q?x=/?y", "h", "h:", "/p/q", "?x=/?y", false, 80},
        {"https://h?x", "h", "h", "/", "?x", true, 443},
        {"https://h?", "h", "h", "/", "?", true, 443},
        {"https://127.0.0.1:65535/a@b:c", "127.0.0.1", "127.0.0.1:65535", "/a@b:c", "", true,
         65535},
        {"https://[::1]:1/", "::1", "[::1]:1", "/", "", true, 1},
        {"https://[2001:db8::1]", "2001:db8::1", "[2001:db8::1]", "/", "", true, 443},
    };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct url url;
        const char *wrong = NULL;
        if (url_parse(str_of(good[i].text), &url, &wrong) != OK) {
            fail_msg("%s: %s", good[i].text, wrong);
        }
        assert_str(url.host, good[i].host);
        assert_str(url.authority, good[i].authority);
        assert_str(url.path, good[i].path);
        assert_str(url.query, good[i].query);
        assert_int_equal(url.https, good[i].https);
        assert_int_equal(url.port, good[i].port);
    }
}

static void bad_urls(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "a.example",
        "/path",
        "ftp://h/",
        "https:/h",
        "https://",
        "https:///p",
        "https://:80/",
        "https://u@h/",
        "https://u:p@h/",
        "https://h/#f",
        "https://h /",
        " https://h",
        "https://h\r\n",
        "https://h/\n",
        "https://h/\x7f",
        "https://h\xc3\xa9/",
        "https://h:0/",
        "https://h:65536/",
        "https://h:x/",
        "https://h:1:2/",
        "https://::1/",
        "https://[::1",
        "https://[::1]x/",
        "https://[]/",
        "https://[1.2.3.4]/",
        "https://[::1%25lo]/",
        "https://h\\x/",
        "https://h%41/",
        "https://[::1]:/x:]#",
        "https://[::::::::::::::::::::::::::::::::::::::::::::::::::::::::]/",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct url url;
        const char *wrong = NULL;
        if (url_parse(str_of(bad[i]), &url, &wrong) != ERR) {
            fail_msg("%s", bad[i]);
        }
        assert_non_null(wrong);
    }
    char longest[300] = "http://";
    struct url url;
    const char *wrong;
    memset(longest + 7, 'a', 254);
    assert_int_equal(url_parse((struct str){longest, 7 + 253}, &url, &wrong), OK);
    assert_int_equal(url_parse((struct str){longest, 7 + 254}, &url, &wrong), ERR);
}

/* ---- encodings ---- */

static void encodings(void **state)
{
    (void)state;
    char every[256];
    struct buf out;
    buf_init(&out, 8192);
    assert_int_equal(url_encode_segment(&out, str_of("a b/c?d%~-._\xc3\xa9+&=")), OK);
    assert_str(buf_str(&out), "a%20b%2Fc%3Fd%25~-._%C3%A9%2B%26%3D");
    buf_free(&out);
    assert_int_equal(url_encode_form(&out, str_of("a b/c~*-._\xc3\xa9+&=\r\n")), OK);
    assert_str(buf_str(&out), "a+b%2Fc%7E*-._%C3%A9%2B%26%3D%0D%0A");
    size_t n = url_decode_form(every, buf_str(&out));
    assert_str(((struct str){every, n}), "a b/c~*-._\xc3\xa9+&=\r\n");
    n = url_decode_form(every, str_of("a%2fb%zz%4%"));
    assert_str(((struct str){every, n}), "a/b%zz%4%");
    for (int i = 0; i < 256; i++) {
        every[i] = (char)i;
    }
    buf_free(&out);
    assert_int_equal(url_encode_form(&out, str_of("")), OK);
    assert_int_equal(url_encode_form(&out, (struct str){every, 256}), OK);
    assert_int_equal(buf_len(&out), 66 + 1 + 189 * 3);
    buf_free(&out);
    assert_int_equal(url_encode_segment(&out, (struct str){every, 256}), OK);
    assert_int_equal(buf_len(&out), 66 + 190 * 3);
    buf_free(&out);
    assert_int_equal(url_encode_segment(&out, str_of("")), ERR);
    assert_int_equal(url_encode_segment(&out, str_of(".")), ERR);
    assert_int_equal(url_encode_segment(&out, str_of("..")), ERR);
    assert_int_equal(url_encode_segment(&out, str_of("...")), OK);
    buf_free(&out);
    buf_init(&out, 5);
    assert_int_equal(url_encode_form(&out, str_of("//")), ERR);
    assert_int_equal(buf_len(&out), 0);
    assert_int_equal(url_encode_form(&out, str_of("/aa")), OK);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls),
        cmocka_unit_test(bad_urls),
        cmocka_unit_test(encodings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
