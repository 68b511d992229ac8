#!/bin/sh
# deb: remove, upgrade or purge; rpm: 0 for a removal
set -e
case "$1" in
remove | 0)
	# Tokens that nobody renews any more.
	rm -rf /run/iam-token-refresher /run/iam-token-refresher-state
	;;
purge)
	# The key is in the first.
	rm -rf /etc/iam-token-refresher /var/lib/iam-token-refresher /run/iam-token-refresher /run/iam-token-refresher-state
	if getent passwd iam-token-refresher >/dev/null; then userdel iam-token-refresher; fi
	;;
*) exit 0 ;;
esac
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
