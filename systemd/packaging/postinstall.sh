#!/bin/sh
# deb: configure [old version]; rpm: 1 for the first version, 2 for another
set -e
systemd-sysusers iam-token-refresher.conf
systemd-tmpfiles --create iam-token-refresher.conf
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
upgraded=
case "$1" in
configure) upgraded=$2 ;;
[2-9]*) upgraded=yes ;;
esac
# Nothing is enabled or started here. What runs is restarted; the socket stays,
# and readers wait on it. Nobody waits for the cloud: it may be away.
if [ -n "$upgraded" ]; then
	systemctl --no-block try-restart iam-token-refresher.service
fi
