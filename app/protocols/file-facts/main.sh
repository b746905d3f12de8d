#!/bin/sh
# What kind of file is it, and is it the one that it should be? An example of a protocol that only calls programs:
# README.md tells what it does, protocol.yml what it takes and leaves.
set -eu

parameter() { jq -r "$1" "$LABFLEET_PARAMETERS"; }
progress() { printf '%s %s\n' "$1" "$2" >>"$LABFLEET_PROGRESS"; echo "$2"; }
fact() { jq -nr --arg name "$1" --arg value "$2" '[$name, $value] | @csv' >>"$LABFLEET_OUTPUTS/facts.csv"; }
# A name on the command line would stand in the program's output, so the content comes by standard input.
digest() { "${1}sum" <"$file" | cut -d ' ' -f 1; }

file=$LABFLEET_INPUTS/file
if [ ! -e "$file" ]; then
    echo "No input: the protocol's own sample is taken."
    file=sample.csv
fi

expected=$(parameter '.expected // "" | ascii_downcase')
# Its length tells by which algorithm it was made.
case ${#expected} in
0) ;;
32) made_by=md5 ;;
40) made_by=sha1 ;;
64) made_by=sha256 ;;
96) made_by=sha384 ;;
128) made_by=sha512 ;;
*)
    echo "The expected checksum has ${#expected} digits: none of MD5, SHA-1, SHA-256, SHA-384, SHA-512." >&2
    exit 65
    ;;
esac

progress 0.1 'looking at its type'
echo 'fact,value' >"$LABFLEET_OUTPUTS/facts.csv"
fact bytes "$(stat --dereference --format %s "$file")"
fact type "$(file --brief --dereference "$file")"
fact media_type "$(file --brief --dereference --mime-type "$file")"
fact encoding "$(file --brief --dereference --mime-encoding "$file")"
fact lines "$(wc -l <"$file")"

algorithms=$(parameter '.algorithms[]')
count=$(printf '%s\n' "$algorithms" | wc -l)
done=0
for algorithm in $algorithms; do
    progress "$(jq -n "0.2 + 0.7 * $done / $count")" "computing $algorithm"
    fact "$algorithm" "$(digest "$algorithm")"
    done=$((done + 1))
done

if [ -n "$expected" ]; then
    found=$(digest "$made_by")
    # BLAKE2 is as long as SHA-512.
    if [ "$found" != "$expected" ] && { [ "$made_by" != sha512 ] || [ "$(digest b2)" != "$expected" ]; }; then
        rm "$LABFLEET_OUTPUTS/facts.csv"
        echo "The file is another one than expected: its checksum is $found ($made_by)." >&2
        exit 1
    fi
    fact as_expected yes
fi
progress 1 'done'
