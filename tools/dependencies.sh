#!/bin/bash
# Installs the Debian packages that the build needs; with the argument "test", the tests' too; with
# "lint", all those and what tools/lint.sh runs. Where all are there, it does nothing and needs no
# network. The CUDA Toolkit is never installed: the build uses nvcc if it finds one. Exit 69:
# something is missing and cannot be installed.
set -euo pipefail

packages=(
  build-essential ca-certificates cmake ninja-build
  libboost-context-dev libcli11-dev libcpp-httplib-dev libcurl4-openssl-dev libfmt-dev libhdf5-dev
  libleptonica-dev libpng-dev libssl-dev libtiff-dev libzip-dev
  nlohmann-json3-dev pkgconf zlib1g-dev)
case ${1-} in
  "" | test | lint) ;;
  *) sed -n '2,/^set/{/^#/s/^# \?//p}' "$0"; [[ $1 == --help ]] && exit 0 || exit 2 ;;
esac

if [[ ${1-} == test || ${1-} == lint ]]; then
  packages+=(catch2 chromium chromium-driver dataset-fashion-mnist git libjpeg62-turbo-dev
    python3 python3-h5py python3-numpy python3-pil python3-selenium python3-venv)
fi
if [[ ${1-} == lint ]]; then
  packages+=(clang-format-14 clang-tidy-14 pycodestyle pyflakes3 shellcheck)
fi

if ! command -v apt-get > /dev/null; then
  echo "dependencies: not Debian: please install ${packages[*]}" >&2
  exit 0
fi

installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${packages[@]}" 2> /dev/null ||
  true)
missing=()
for package in "${packages[@]}"; do
  grep -qx "installed $package" <<< "$installed" || missing+=("$package")
done
((${#missing[@]})) || exit 0

if ((EUID == 0)); then
  as_root=()
elif command -v sudo > /dev/null; then
  as_root=(sudo)
else
  echo "dependencies: missing, and neither root nor sudo is at hand to install them. As root:" >&2
  echo "  apt-get update && apt-get install -y ${missing[*]}" >&2
  exit 69
fi

echo "dependencies: installing ${missing[*]}" >&2
if ! { "${as_root[@]}" apt-get update -q &&
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -q -y --no-install-recommends "${missing[@]}"; } < /dev/null >&2; then
  echo "dependencies: apt-get could not install ${missing[*]} (its messages are above);" \
    "is there a network?" >&2
  exit 69
fi
