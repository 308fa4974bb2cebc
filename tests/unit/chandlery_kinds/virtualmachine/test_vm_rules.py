"""The command line, power, and what QEMU's answers mean: pure parts of the local driver."""

import json
import struct

import pytest

from chandlery.providers.local.asking import reachable
from chandlery_kinds.virtualmachine.command import DiskArgs, ForwardArgs, MachineArgs, node_name, render, restart_needed
from chandlery_kinds.virtualmachine.drivers.local import VirtualMachineDriver
from chandlery_kinds.virtualmachine.drivers.local_images import disk_format, wanted
from chandlery_kinds.virtualmachine.drivers.local_look import accepting
from chandlery_kinds.virtualmachine.model import VirtualMachine
from chandlery_kinds.virtualmachine.parameters import MachineParameters
from chandlery_kinds.virtualmachine.power import POWER_ANNOTATION, Ended, Power
from chandlery_kinds.virtualmachine.power import wanted as wanted_power
from chandlery_kinds.virtualmachine.qmp import parse_usernet
from chandlery_kinds.virtualmachine.spec_parts import RunStrategy

TABLE = """Hub -1 (n0):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[ESTABLISHED]   17       127.0.0.1 20001       10.0.2.15    80     0     0
  TCP[SYN_SENT]      18       127.0.0.1 20002       10.0.2.15    22     0     0
  TCP[HOST_FORWARD]  11       127.0.0.1 20001       10.0.2.15    80     0     0
  TCP[HOST_FORWARD]  12       127.0.0.1 20002       10.0.2.15    22     0     0
  UDP[HOST_FORWARD]  13       127.0.0.1 20003       10.0.2.15    53     0     0
  ICMP[0 sec]        14       10.0.2.15     -        10.0.2.2     -     0     0
"""


def machine(**more):
    fields = {"uuid": "u", "cpus": 2, "memory": 96 << 20, "mac": "52:54:00:00:00:01", "accelerator": "tcg"}
    return MachineArgs(**fields | {"sandbox": True} | more)


def vm(**spec):
    return VirtualMachine.model_validate(
        {
            "apiVersion": "compute.chandlery.dev/v1alpha1",
            "kind": "VirtualMachine",
            "metadata": {"name": "demo", "namespace": "default", "uid": "x"},
            "spec": {"image": {"name": "tiny"}, "memory": "96Mi", **spec},
            "status": {},
        }
    )


def after(argv, option):
    return [argv[i + 1] for i, word in enumerate(argv) if word == option]


def test_only_the_guests_own_answer_counts_as_accepting():
    forwards = [ForwardArgs("http", "TCP", 20001, 80), ForwardArgs("ssh", "TCP", 20002, 22)]
    assert accepting(forwards, parse_usernet(TABLE)) == {"http"}


def test_forwards_are_read_from_the_table():
    found = {(c.protocol, c.port, c.guest_port) for c in parse_usernet(TABLE) if c.state == "HOST_FORWARD"}
    assert found == {("TCP", 20001, 80), ("TCP", 20002, 22), ("UDP", 20003, 53)}


def test_the_command_line_confines_the_guest_and_names_no_path_of_a_socket():
    argv = render(machine(forwards=[ForwardArgs("http", "TCP", 20001, 80)]))
    assert after(argv, "-sandbox") == ["on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
    assert after(argv, "-netdev") == ["user,id=n0,hostfwd=tcp:127.0.0.1:20001-:80"]
    assert after(argv, "-qmp") == ["unix:qmp.sock,server=on,wait=off", "unix:events.sock,server=on,wait=off"]
    assert after(argv, "-m") == ["98304k"]


def test_a_fixed_address_brings_its_own_network_without_collisions():
    argv = render(machine(network="192.0.2.1/29"))
    options = dict(part.partition("=")[::2] for part in after(argv, "-netdev")[0].split(","))
    assert options["net"] == "192.0.2.0/29"
    assert options["dhcpstart"] == "192.0.2.1"
    assert len({options["host"], options["dns"], options["dhcpstart"]}) == 3


def test_disks_boot_in_order_and_free_slots_stay_for_more():
    disks = [DiskArgs("root", "/r.qcow2"), DiskArgs("data", "/d.qcow2"), DiskArgs("old", "/o.qcow2", "sata", True)]
    argv = render(machine(disks=disks))
    devices = [json.loads(text) for text in after(argv, "-device") if text.startswith("{")]
    assert [d.get("bootindex") for d in devices] == [1, None, None]
    assert [d["driver"] for d in devices] == ["virtio-blk-pci", "virtio-blk-pci", "ide-hd"]
    assert devices[0]["bus"] != devices[1]["bus"]
    assert sum("pcie-root-port" in text for text in after(argv, "-device")) > 2
    assert all(len(d["drive"]) <= 31 for d in devices)


def test_node_names_are_short_and_distinct_for_long_names():
    a, b = node_name("x" * 60 + "a"), node_name("x" * 60 + "b")
    assert a != b
    assert len(a) <= 31


def test_what_needs_a_restart_is_named_by_its_field():
    a, b = restart_needed(machine()), restart_needed(machine(cpus=4))
    assert [field for field in a if a[field] != b[field]] == ["spec.cpus"]


@pytest.mark.parametrize(
    ("strategy", "annotation", "ended", "started", "expected"),
    [
        (RunStrategy.ALWAYS, "", None, False, Power.RUNNING),
        (RunStrategy.ALWAYS, "", Ended.SHUTDOWN, True, Power.RUNNING),
        (RunStrategy.ALWAYS, "Off", None, True, Power.RUNNING),
        (RunStrategy.ALWAYS, "paused", None, True, Power.PAUSED),
        (RunStrategy.HALTED, "On", None, True, Power.OFF),
        (RunStrategy.MANUAL, "", None, False, Power.OFF),
        (RunStrategy.MANUAL, "On", Ended.HALTED, True, Power.RUNNING),
        (RunStrategy.MANUAL, "Paused", None, True, Power.PAUSED),
        (RunStrategy.RERUN_ON_FAILURE, "", Ended.SHUTDOWN, True, Power.OFF),
        (RunStrategy.RERUN_ON_FAILURE, "", Ended.CRASHED, True, Power.RUNNING),
        (RunStrategy.RERUN_ON_FAILURE, "", Ended.KILLED, True, Power.RUNNING),
        (RunStrategy.RERUN_ON_FAILURE, "", Ended.HALTED, True, Power.RUNNING),
        (RunStrategy.ONCE, "", None, False, Power.RUNNING),
        (RunStrategy.ONCE, "", None, True, Power.RUNNING),
        (RunStrategy.ONCE, "", Ended.CRASHED, True, Power.OFF),
    ],
)
def test_power(strategy, annotation, ended, started, expected):
    annotations = {POWER_ANNOTATION: annotation} if annotation else {}
    assert wanted_power(strategy, annotations, ended, was_started=started) is expected


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"architecture": "aarch64"}, "spec.architecture"),
        ({"firmware": "uefi"}, "spec.firmware"),
        ({"network": {"mode": "bridge", "bridge": "br0"}}, "spec.network.mode"),
        ({"network": {"address": "2001:db8::2/64"}}, "spec.network.address"),
        ({"exposure": {"type": "NodePort"}}, "spec.exposure.type"),
        ({"memory": "64Mi"}, "spec.memory"),
        ({"cloudInit": {"userData": "#cloud-config\n{}"}}, "spec.cloudInit.userData"),
        ({"guestAgent": {"required": True}}, "spec.guestAgent.required"),
        ({"snapshots": {"schedule": "0 5 * * *"}}, "spec.snapshots.schedule"),
    ],
)
def test_what_can_not_be_honoured_is_named(spec, field, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert [found.field for found in VirtualMachineDriver().unsupported(vm(**spec), MachineParameters())] == [field]


def test_an_image_of_the_class_goes_before_the_built_in_one():
    own = {"images": {"tiny": {"url": "https://example.com/t.img", "checksum": "sha256:" + "0" * 64}}}
    found = wanted(vm().spec, MachineParameters.model_validate(own))
    assert found.disk is not None
    assert found.disk.url == "https://example.com/t.img"
    assert wanted(vm().spec, MachineParameters()).built_in


def qcow2(version=3, size=1 << 20, backing=b"", features=0):
    header = (
        b"QFI\xfb" + struct.pack(">IQI", version, 200 if backing else 0, len(backing)) + struct.pack(">IQ", 16, size)
    )
    return (header.ljust(72, b"\0") + struct.pack(">Q", features)).ljust(200, b"\0") + backing


@pytest.mark.parametrize(
    ("content", "name", "size", "leans_on"),
    [
        (b"\0" * 1000, "raw", 1000, ""),
        (qcow2(), "qcow2", 1 << 20, ""),
        (qcow2(backing=b"/etc/shadow"), "qcow2", 1 << 20, "/etc/shadow"),
        (qcow2(features=4), "qcow2", 1 << 20, "an external data file"),
    ],
)
def test_a_disk_image_is_known_by_its_header(tmp_path, content, name, size, leans_on):
    path = tmp_path / "image"
    path.write_bytes(content)
    found = disk_format(path)
    assert (found.name, found.size, found.leans_on) == (name, size, leans_on)


def test_a_socket_far_down_is_reached_by_a_short_name(tmp_path):
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    with reachable(deep / "qmp.sock") as name:
        assert len(name) < 100
