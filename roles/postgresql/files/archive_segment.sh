#!/bin/sh
# archive_command of PostgreSQL: archive_segment.sh PATH NAME DIRECTORY [replace] puts the segment into DIRECTORY as NAME.gz.
# Zero means that it is there for good; the server asks again until it hears that.
set -eu
umask 027
whole=$3/$2.gz
part=$3/.$2.part

# After a crash the server may ask for what is there already; anything else of that name is not overwritten. A server of
# several has a directory of its own, and after a fail-over it may have the last segment of the old timeline as it was when
# that ended: what it has now is what its own past is made of (`replace`).
if [ -e "$whole" ]; then
    gzip -dc "$whole" | cmp -s - "$1" && exit 0
fi
if [ -e "$whole" ] && [ "${4-}" != replace ]; then
    echo "$whole is there with other content; it is left as it is." >&2
    exit 1
fi
gzip -1 -n -c "$1" >"$part"
sync "$part"
mv "$part" "$whole"
sync "$3"
