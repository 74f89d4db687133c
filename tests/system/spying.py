"""A task that looks for everything of the platform that it might reach, and tells what it found, part by part."""

import subprocess
from collections.abc import Sequence

#: arguments: two halves of each thing that must not be found, then two dashes, then paths that must not be there
PROGRAM = r"""
part() { echo "== $1"; }
part found
while [ "$1" != -- ]; do
    for folder in /*; do
        case $folder in /proc | /sys | /dev | /bin | /sbin) continue ;; esac
        find "$folder" -type f -exec grep -l -- "$1$2" {} + 2>/dev/null
    done
    for file in /proc/[0-9]*/environ; do tr '\0' '\n' 2>/dev/null <"$file"; done | sed "s/$1$2/found/" | grep found
    shift 2
done
shift
part paths
for path; do [ -e "$path" ] && echo "$path"; done
part environment
tr '\0' '\n' </proc/self/environ | cut -d= -f1 | sort
part processes
cat /proc/[0-9]*/comm 2>/dev/null
part sockets
find / -path /proc -prune -o -type s -print 2>/dev/null
awk 'NR > 1 && NF > 7 { print $NF }' /proc/net/unix
part devices
find / -path /proc -prune -o \( -type b -o -type c \) -print 2>/dev/null | sort
part mounts
awk '{ print $5 }' /proc/self/mountinfo | sort
part groups
find /sys/fs/cgroup -mindepth 2 -type d 2>/dev/null
part rights
grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\t'
part done
can() { "$@" >/dev/null 2>&1 </dev/null && echo "$*"; }
can mount -t proc proc /tmp
can mknod /tmp/sda b 8 0
can chroot / true
can dmesg
can unshare -r true
can unshare -n true
can hostname other
can swapoff -a
can ip link add x type dummy
can ip link set lo down
can sh -c 'echo 1 >/proc/sys/kernel/printk'
can sh -c 'for group in $(awk "/ - cgroup2? /" /proc/self/mountinfo | cut -d" " -f5); do mkdir $group/x && exit; done; exit 1'
can sh -c 'find /sys -type f -writable 2>/dev/null | while read -r file; do echo 1 >"$file" && echo "$file"; done | grep .'
true
"""


def command(needles: Sequence[str], paths: Sequence[str]) -> list[str]:
    """Each needle comes in halves, so that the spy does not find itself."""
    halves = [half for needle in needles for half in (needle[: len(needle) // 2], needle[len(needle) // 2 :])]
    return ["sh", "-c", PROGRAM, "spy", *halves, "--", *paths]


def parts(said: str) -> dict[str, list[str]]:
    """What was found, by part."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in said.splitlines():
        if line.startswith("== "):
            lines = found.setdefault(line[3:], [])
        else:
            lines.append(line)
    return found


def listeners(before: Sequence[str]) -> set[tuple[str, int]]:
    """Addresses and ports of TCP and UDP on which anything listens there (proc_net(5): state 0A; UDP has none)."""
    found = set()
    for name in ("tcp", "tcp6", "udp", "udp6"):
        done = subprocess.run([*before, "cat", f"/proc/net/{name}"], capture_output=True, text=True, check=False)
        for line in done.stdout.splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" or name.startswith("udp"):
                address, _, port = words[1].partition(":")
                found.add((name if len(address) > 8 else _dotted(address), int(port, 16)))
    return found


def _dotted(address: str) -> str:
    return ".".join(str(byte) for byte in reversed(bytes.fromhex(address)))
