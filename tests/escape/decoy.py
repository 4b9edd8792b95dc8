"""Another process of the host, as an attack finds one. Read as text, run by itself.

It has its secret (the first line that it is told) in memory, in its environment and in an open file, and
answers questions about itself.
"""

import ctypes
import os
import sys

folder, words = sys.argv[1], sys.argv[2:]
nonce = sys.stdin.readline().strip()
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(15, b"d" + nonce[:14].encode(), 0, 0, 0)
server = None
if "namespaces" in words:
    uid, gid = os.getuid(), os.getgid()
    assert libc.unshare(0x10000000 | 0x20000 | 0x4000000 | 0x40000000) == 0
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    assert libc.mount(b"none", f"{folder}/inner".encode(), b"tmpfs", 0, None) == 0
    with open(f"{folder}/inner/secret", "w") as file:
        file.write(nonce)
path = os.path.join(folder, "held")
with open(path, "w") as file:
    file.write(nonce)
held = os.open(path, os.O_RDWR)
os.unlink(path)  # nobody comes to it by name any more
os.chdir(folder)
buffer = ctypes.create_string_buffer(nonce.encode(), 64)
print(ctypes.addressof(buffer), held, flush=True)
for line in sys.stdin:
    if line.strip() == "memory":
        print(buffer.value.decode(errors="replace"), flush=True)
    elif line.strip() == "file":
        print(os.pread(held, 100, 0).decode(errors="replace"), flush=True)
    elif line.strip() == "name":
        print(os.uname().nodename, flush=True)
