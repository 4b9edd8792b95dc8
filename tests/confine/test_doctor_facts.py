"""What the files of a host say, read below any root."""

from __future__ import annotations

from pathlib import Path

from fumehood.confine.facts import from_files, parse_os_release


def test_os_release_is_read_as_shell_words() -> None:
    text = '# x\nID="ubuntu"\nID_LIKE=\'debian x\'\nVERSION_ID=24.04\nBAD\nBROKEN="a\nnope nope=1\n'
    assert parse_os_release(text) == {"ID": "ubuntu", "ID_LIKE": "debian x", "VERSION_ID": "24.04"}


def test_facts_come_from_the_files_of_a_root(tmp_path: Path) -> None:
    for name, text in {
        "usr/lib/os-release": 'ID=rocky\nID_LIKE="rhel fedora"\nVERSION_ID="9.4"\nPRETTY_NAME="Rocky 9"\n',
        "proc/sys/user/max_user_namespaces": "0\n",
        "proc/self/status": "Name:\tx\nSeccomp:\t2\n",
        "proc/self/cgroup": "0::/a/b\n",
        "sys/fs/cgroup/a/b/memory.max": "max\n",
        "sys/fs/cgroup/a/b/cgroup.controllers": "cpu memory pids\n",
        "sys/fs/cgroup/a/memory.max": "1048576\n",
        "sys/kernel/security/lsm": "capability,yama",
        "run/.containerenv": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    facts = from_files(str(tmp_path))
    assert (facts.distribution, facts.version, facts.family(), facts.title) == (
        "rocky",
        "9.4",
        "fedora",
        "Rocky 9",
    )
    assert facts.sysctls == {"user.max_user_namespaces": "0"}
    assert (facts.is_filtered, facts.container, facts.lsms) == (True, "podman", ("capability", "yama"))
    assert facts.memory_limit_bytes == 1 << 20
    assert facts.delegated_cgroup == "/sys/fs/cgroup/a/b"
    (tmp_path / "sys/fs/cgroup/a/b/cgroup.controllers").write_text("cpu\n")
    assert from_files(str(tmp_path)).delegated_cgroup == ""
    assert from_files(str(tmp_path / "empty")).title == "Linux"
