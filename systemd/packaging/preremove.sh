#!/bin/sh
# deb: remove or upgrade; rpm: 0 for a removal
set -e
case "$1" in
remove | 0) ;;
*) exit 0 ;;
esac
[ -d /run/systemd/system ] || exit 0
systemctl disable --now iam-token-refresher.service iam-token-refresher.socket
