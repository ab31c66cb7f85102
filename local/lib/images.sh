# Images: the ones made from packages (see images/images.py), and how archives are named among the nodes.
# shellcheck shell=bash

images_py() {
  KAGAMI_CACHE=$CACHE PROGRAM_COREDNS=$(program_dir coredns) PROGRAM_LOCAL_PATH_PROVISIONER=$(program_dir local-path-provisioner) \
    python3 "$LOCAL_DIR/images/images.py" "$@"
}

build_images() {
  need_packages dpkg=dpkg-deb apt=apt-get python3=python3 python3-pip=pip3 musl-tools=musl-gcc gcc=gcc
  mkdir -p "$CACHE/images"
  # One at a time; the second finds everything made.
  ( flock 9; images_py build ) 9>"$CACHE/images.lock"
}

driver_images() {
  local p
  for p in coredns local-path-provisioner; do build_program $p; done
  build_images
  images_py list engines | cut -f1
}
