#!/bin/bash
# The shortest way to see tproxy work: a mailbox (Dovecot, in a temporary directory), a destination
# for it, `tproxy --local`, and a telnet session that reads the mail without any login. Touches
# nothing of the system. `make demo` builds and installs what it needs, then comes here.
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
tproxy=${TPROXY_BIN:-${B:-$top/build}/tproxy}
example=$top/examples/basic/example-dest-pop3.json
PATH=$PATH:/usr/sbin:/usr/local/sbin

for program in "$tproxy" dovecot telnet python3; do
    if ! command -v "$program" >/dev/null; then
        echo "demo: $program is missing; use: make demo" >&2
        exit 1
    fi
done

dir=$(mktemp -d "${TMPDIR:-/tmp}/tproxy-demo-XXXXXX")
chmod 755 "$dir"
proxy=

cleanup() {
    status=$?
    trap - EXIT
    if [ -n "$proxy" ]; then
        kill "$proxy" 2>/dev/null || true
        wait "$proxy" 2>/dev/null || true
    fi
    dovecot -c "$dir/dovecot.conf" stop 2>/dev/null || true
    if [ $status -ne 0 ]; then
        echo "demo: failed; what was logged:" >&2
        cat "$dir/tproxy.log" "$dir/dovecot.log" >&2 2>/dev/null || true
    fi
    rm -rf "$dir"
    exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# The mailbox. Dovecot never reads mail as root, and keeps its login processes under two users of
# their own; somebody who is not root lends it their own name for everything.
if [ "$(id -u)" = 0 ]; then
    login=dovenull internal=dovecot group=dovecot uid=65534 gid=65534
else
    login=$(id -un) internal=$login group=$(id -gn) uid=$(id -u) gid=$(id -g)
fi
word=$(head -c 500 /dev/urandom | LC_ALL=C tr -dc a-z | cut -c 1-12)
password=$(head -c 500 /dev/urandom | LC_ALL=C tr -dc a-zA-Z0-9 | cut -c 1-16)
mkdir -p "$dir"/mail/Maildir/{new,cur,tmp} "$dir/destinations"
cat >"$dir/mail/Maildir/new/1700000000.1.demo" <<MAIL
From: somebody@example.com
To: robot@example.com
Subject: hello

The word of the day is $word.
MAIL
if [ "$(id -u)" = 0 ]; then
    chown -R $uid:$gid "$dir/mail"
fi

start_dovecot() {
    cat >"$dir/dovecot.conf" <<CONF
protocols = pop3
base_dir = $dir/run
state_dir = $dir/state
log_path = $dir/dovecot.log
default_login_user = $login
default_internal_user = $internal
default_internal_group = $group
first_valid_uid = 1
first_valid_gid = 1
ssl = no
disable_plaintext_auth = no
mail_location = maildir:~/Maildir
passdb {
  driver = static
  args = user=robot@example.com password=$password
}
userdb {
  driver = static
  args = uid=$uid gid=$gid home=$dir/mail
}
service pop3-login {
  chroot =
  inet_listener pop3 {
    address = 127.0.0.1
    port = $1
  }
  inet_listener pop3s {
    port = 0
  }
}
service anvil {
  chroot =
}
CONF
    dovecot -c "$dir/dovecot.conf" >"$dir/dovecot.out" 2>&1
}

for attempt in 1 2 3 4 5; do
    mail_port=$((20000 + RANDOM % 10000))
    if start_dovecot $mail_port; then
        break
    elif [ $attempt = 5 ]; then
        cat "$dir/dovecot.out" >&2
        exit 1
    fi
done

# The destination: the example with this mailbox in it.
sed -e "s/pop.example.com/127.0.0.1/" -e "s/\"110\"/\"$mail_port\"/" -e "s/change-me/$password/" \
    "$example" >"$dir/destinations/example-dest-pop3.json"

coproc PROXY {
    exec "$tproxy" --local "$dir/destinations" --target-ports 0 --admin off \
        --control "tproxy-demo-$$" 2>"$dir/tproxy.log"
}
proxy=$PROXY_PID
ready=
while read -r -t 30 -u "${PROXY[0]}" ready && [[ $ready != *ready ]]; do :; done
[[ $ready =~ ^example-dest-pop3\ +127\.0\.0\.1:([0-9]+)\ +ready$ ]] || exit 1
port=${BASH_REMATCH[1]}

echo "A mailbox at 127.0.0.1:$mail_port has one message, with the word \"$word\"."
echo
echo "\$ tproxy --local examples/basic     # with that mailbox in the file"
echo "$ready"
echo
echo "\$ telnet 127.0.0.1 $port"
python3 "$top/scripts/telnet.py" 127.0.0.1 "$port" list "retr 1" quit | tee "$dir/session"
grep -q "The word of the day is $word\." "$dir/session"
