# Sourced by testbed/demo, testbed/test and .ci/run: what they need beside cargo, by Debian 12's names.
# shellcheck shell=bash

# What each package is needed for is in docs/testing.md.
PACKAGES=(
    build-essential pkg-config clang libclang-14-dev libdpdk-dev dpdk
    dpdk-dev nginx-light vsftpd curl socat iproute2 iputils-ping iputils-tracepath traceroute ethtool nftables util-linux tcpdump
    libusrsctp-examples sip-tester tshark ipvsadm ldirectord chromium prometheus debootstrap systemd-container
)

# Installs what is lacking, and says so.
install_packages() {
    local package lacking=()
    for package in "${PACKAGES[@]}"; do
        if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
            lacking+=("$package")
        fi
    done
    if [ "${#lacking[@]}" -gt 0 ]; then
        echo "installing by apt-get: ${lacking[*]}"
        export DEBIAN_FRONTEND=noninteractive
        # A list of packages that is too old names files that are no longer there.
        apt-get -qq update
        # nginx is run by the labs themselves; Debian would start one more on port 80 of this machine.
        RUNLEVEL=1 apt-get -qq install --yes --no-install-recommends "${lacking[@]}" >/dev/null
    fi
}

# Ends with a sentence unless this is root on a machine with cargo.
require_root_and_cargo() {
    if [ "$(id -u)" -ne 0 ]; then
        echo "$0 makes network namespaces and must be run as root" >&2
        exit 1
    fi
    if ! command -v cargo >/dev/null && [ -f "$HOME/.cargo/env" ]; then
        # shellcheck disable=SC1091
        . "$HOME/.cargo/env"
    fi
    if ! command -v cargo >/dev/null; then
        echo "$0 needs cargo: install Rust by https://rustup.rs" >&2
        exit 1
    fi
}
