"""Facts about the machine, from copies of the kernel's files."""

from pathlib import Path

from hounsfield.planning.machine import parse_accelerators, read_machine

CPUINFO = "processor\t: 0\nmodel name\t: Test CPU @ 2 GHz\nflags\t\t: sse avx512f amx_bf16\n"
MEMINFO = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:   12000000 kB\n"


def machine_at(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/cpuinfo": CPUINFO, "proc/meminfo": MEMINFO, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_without_limits_it_is_what_the_kernel_says(tmp_path: Path) -> None:
    machine = read_machine(machine_at(tmp_path, {}), accelerators=False)
    assert machine.cpu_model == "Test CPU @ 2 GHz"
    assert machine.fast_bf16
    assert (machine.total_bytes, machine.available_bytes) == (16000000 * 1024, 12000000 * 1024)
    assert machine.cores >= 1


def test_the_tightest_limit_of_a_container_counts_and_page_cache_does_not(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/outer/inner\n",
        "sys/fs/cgroup/outer/memory.max": "4000000000\n",
        "sys/fs/cgroup/outer/memory.current": "3000000000\n",
        "sys/fs/cgroup/outer/memory.stat": "anon 5\ninactive_file 2000000000\n",
        "sys/fs/cgroup/outer/inner/memory.max": "max\n",
        "sys/fs/cgroup/outer/cpu.max": "100000 100000\n",
    }
    machine = read_machine(machine_at(tmp_path, files), accelerators=False)
    assert machine.total_bytes == 4_000_000_000
    assert machine.available_bytes == 3_000_000_000
    assert machine.cores == 1


def test_the_older_control_groups_are_read_too(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "7:memory:/box\n",
        "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "2147483648\n",
        "sys/fs/cgroup/memory/box/memory.usage_in_bytes": "1073741824\n",
    }
    machine = read_machine(machine_at(tmp_path, files), accelerators=False)
    assert (machine.total_bytes, machine.available_bytes) == (2**31, 2**30)


def test_a_machine_without_any_of_it_still_gives_an_answer(tmp_path: Path) -> None:
    machine = read_machine(tmp_path, accelerators=False)
    assert machine.cpu_model == "unknown CPU"
    assert machine.total_bytes > 0


def test_accelerators_are_parsed_and_nonsense_is_not() -> None:
    found = parse_accelerators("NVIDIA H200, 143771, 143000\nNo devices were found\nOdd, name, 8192, 8000\n")
    assert [(gpu.name, gpu.total_bytes // 2**20) for gpu in found] == [("NVIDIA H200", 143771), ("Odd, name", 8192)]
