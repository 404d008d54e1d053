#!/usr/bin/env bash
# Builds the Debian package from the sdist in dist/, which must be there, and has lintian look at it.
# The package comes to lie beside it. Needs the tools of `setup.sh packages deb`, and a package index
# or what debian/rules says to do without one.
set -euo pipefail
cd "$(dirname "$0")/.."

BUILD=build/deb

die() {
    echo "deb: $*" >&2
    exit 1
}

for program in dpkg-buildpackage dh lintian; do
    type -P "$program" >/dev/null || die "$program is not installed (tools/setup.sh packages deb)"
done
shopt -s nullglob
sdists=(dist/bascule-*.tar.gz)
[ ${#sdists[@]} = 1 ] || die "dist/ must have one sdist (make dist), not ${#sdists[@]}"

rm -rf "$BUILD"
mkdir -p "$BUILD"
tar -xf "${sdists[0]}" -C "$BUILD"
(cd "$BUILD"/bascule-* && dpkg-buildpackage --build=binary --no-sign)
rm -f dist/bascule_*.deb
cp "$BUILD"/bascule_*.deb dist/
lintian --allow-root --fail-on error,warning \
    "$BUILD"/bascule_*.changes
