#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# skopeo 1.9.3 and umoci 0.4.7 (Debian 12): an uncompressed layer that says it is compressed.
#
# Expected: "skopeo copy --dest-oci-accept-uncompressed-layers" leaves a layer as the plain tar that
# it is and describes it as application/vnd.oci.image.layer.v1.tar. Seen: the blob is a plain tar,
# the manifest says ...tar+gzip, and umoci, which believes the manifest, cannot unpack the image
# that skopeo made; skopeo reads it without a word. A host that makes root file systems from images
# has to look at a layer's first bytes, not only at its media type.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

apt-get -qq download skopeo=1.9.3+ds1-1+b10 umoci=0.4.7+ds-3+b7 libgpgme11=1.18.0-3+deb12u1 \
	libassuan0=2.5.5-5 2>apt.log || { cat apt.log; exit 1; }
for package in *.deb; do dpkg -x "$package" root; done
export LD_LIBRARY_PATH=$work/root/usr/lib/x86_64-linux-gnu PATH=$work/root/usr/bin:$PATH

mkdir image
echo text >file
tar -cf image/layer.tar file
cat >image/config.json <<END
{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers",
"diff_ids":["sha256:$(sha256sum image/layer.tar | cut -d ' ' -f 1)"]}}
END
echo '[{"Config":"config.json","RepoTags":["a:b"],"Layers":["layer.tar"]}]' >image/manifest.json
tar -C image -cf image.tar layer.tar config.json manifest.json

layer() { # LAYOUT: what its manifest says of the layer, and whether the blob is the plain tar
	local digest
	digest=$(sha256sum image/layer.tar | cut -d ' ' -f 1)
	echo "$(grep -oh 'vnd.oci.image.layer[^"]*' "$1"/blobs/sha256/*)" \
		"$(cmp -s image/layer.tar "$1/blobs/sha256/$digest" && echo plain || echo packed)"
}
skopeo --insecure-policy copy -q docker-archive:image.tar oci:packed:b
skopeo --insecure-policy copy -q --dest-oci-accept-uncompressed-layers \
	docker-archive:image.tar oci:plain:b
packed=0
umoci raw unpack --rootless --image packed:b packed-root >packed.log 2>&1 || packed=$?
plain=0
umoci raw unpack --rootless --image plain:b plain-root >plain.log 2>&1 || plain=$?
again=0
skopeo --insecure-policy copy -q oci:plain:b dir:again || again=$?

skopeo --version
umoci --version
echo "by default: $(layer packed); umoci: status $packed"
echo "uncompressed: $(layer plain); umoci: status $plain, $(tail -n 1 plain.log)"
echo "skopeo itself reads the second: status $again"
[ "$(layer packed)" = "vnd.oci.image.layer.v1.tar+gzip packed" ] && [ "$packed" -eq 0 ] &&
	[ "$(layer plain)" = "vnd.oci.image.layer.v1.tar+gzip plain" ] && [ "$plain" -ne 0 ] &&
	grep -q 'gzip: invalid header' plain.log && [ "$again" -eq 0 ]
