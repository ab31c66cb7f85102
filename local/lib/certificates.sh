# The cluster's own certificate authority, and kubeconfigs from it. Elliptic keys: making an RSA one takes longer than starting etcd.
# shellcheck shell=bash

make_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }

make_authority() {
  mkdir -p "$STATE/pki"
  ( umask 077; make_key "$STATE/pki/ca.key"; make_key "$STATE/pki/service-accounts.key" )
  openssl req -x509 -new -key "$STATE/pki/ca.key" -subj /CN=kagami-local -days 3650 -out "$STATE/pki/ca.crt" \
    -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature 2>/dev/null
  openssl ec -in "$STATE/pki/service-accounts.key" -pubout -out "$STATE/pki/service-accounts.pub" 2>/dev/null
}

make_certificate() { # name subject subjectAltName
  local at=$STATE/pki/$1
  ( umask 077; make_key "$at.key" )
  openssl req -new -key "$at.key" -subj "$2" -out "$at.csr" 2>/dev/null
  # The serial is given, not counted in a file: nodes get their certificates side by side.
  openssl x509 -req -in "$at.csr" -CA "$STATE/pki/ca.crt" -CAkey "$STATE/pki/ca.key" -set_serial "0x$(openssl rand -hex 16)" -days 3650 \
    -extfile <(printf 'subjectAltName=%s\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n' "$3") -out "$at.crt" 2>/dev/null
  rm -f "$at.csr"
}

make_kubeconfig() { # file certificate-name
  local at=$STATE/pki/$2
  ( umask 077; cat >"$1.new" <<YAML
apiVersion: v1
kind: Config
current-context: kagami-local
contexts: [{name: kagami-local, context: {cluster: kagami-local, user: $2}}]
clusters:
- name: kagami-local
  cluster:
    server: $API_URL
    certificate-authority-data: $(base64 -w0 <"$STATE/pki/ca.crt")
users:
- name: $2
  user:
    client-certificate-data: $(base64 -w0 <"$at.crt")
    client-key-data: $(base64 -w0 <"$at.key")
YAML
  )
  mv "$1.new" "$1"
}
