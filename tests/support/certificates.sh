#!/bin/sh
# Makes certificates for TLS tests in the folder given: ca.crt, and signed by it good, wrong (another
# name), expired and client, each NAME.crt and NAME.key.
set -e
cd "$1"
key() {
	openssl ecparam -genkey -name prime256v1 -noout -out "$1.key"
}
sign() { # name, subject, extension, openssl-ca arguments
	name=$1 subject=$2
	printf '%s\n' "$3" >"$name.ext"
	shift 3
	key "$name"
	openssl req -new -key "$name.key" -subj "$subject" -out "$name.csr"
	openssl ca -batch -notext -config ca.conf -extfile "$name.ext" -in "$name.csr" \
		-out "$name.crt" "$@"
}
cat >ca.conf <<'END'
[ca]
default_ca = us
[us]
dir = .
database = index
new_certs_dir = .
serial = serial
certificate = ca.crt
private_key = ca.key
default_md = sha256
default_days = 30
policy = any
unique_subject = no
[any]
commonName = supplied
organizationName = optional
END
: >index
echo 1000 >serial
exec >openssl.log 2>&1
key ca
openssl req -x509 -new -key ca.key -subj "/CN=test authority" -days 30 -out ca.crt
# the last two: where packet tests have their API server, and the Service that leads to it
sign good "/CN=good" \
	"subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:apiserver.example,IP:172.20.0.2,IP:172.30.0.1"
sign wrong "/CN=wrong" "subjectAltName=DNS:other.example"
sign expired "/CN=expired" "subjectAltName=IP:127.0.0.1" -startdate 20200101000000Z \
	-enddate 20210101000000Z
sign client "/O=system:nodes/CN=node-a" "extendedKeyUsage=clientAuth"
