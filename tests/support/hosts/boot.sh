# What a simulated host does when it is switched on: it looks at nothing of the machine below but programs and code, and
# ends as sshd. Variables: NAME, STATE (its folder), SHARED (what all hosts mount), KEEP (folders that stay visible).
set -eu
mount --make-rprivate /
for folder in $KEEP; do # only those that are about to be hidden
  case "$folder/" in
    /tmp/*) here="$STATE/tmp/${folder#/tmp/}" ;;
    "$HOME"/*) here="$STATE/home/${folder#"$HOME"/}" ;;
    *) continue ;;
  esac
  mkdir -p "$here"
  mount --bind -o ro "$folder" "$here"
done
for file in hosts passwd group shadow; do mount --bind "$STATE/etc_$file" "/etc/$file"; done
chown -R 1000:1000 "$STATE/homes/ubuntu"
mount --bind "$STATE/homes" /home
mount --rbind "$STATE/home" "$HOME"
mount --bind "$STATE/run" /run
mount -t tmpfs tmpfs /mnt
mkdir /mnt/shared
mount --bind "$SHARED" /mnt/shared # plays a network file system
mount -t tmpfs -o size=4g tmpfs /dev/shm
mount --rbind "$STATE/tmp" /tmp # the last one, for $STATE may be below /tmp
mount -t proc proc /proc
hostname "$NAME"
ip link set lo up
exec /usr/sbin/sshd -D -E /run/sshd.log -f /run/sshd_config
