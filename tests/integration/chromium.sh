#!/bin/sh
# Chromium at $CHROMIUM, without the pages that it draws the menu of its address bar with: each
# window has two, which take half a second of CPU time.  Only the last --disable-features counts,
# and Playwright has one.
for argument; do
    shift
    case $argument in
        --disable-features=*) argument="$argument,WebUIOmniboxPopup,WebUIOmniboxAimPopup" ;;
    esac
    set -- "$@" "$argument"
done
exec "$CHROMIUM" "$@"
