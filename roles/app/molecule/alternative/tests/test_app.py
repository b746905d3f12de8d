"""Development mode, in another place: dependencies from the release, code from the mounted tree."""

from testinfra.host import Host

PYTHON = "/srv/labfleet/current/bin/python"


def test_code_comes_from_the_mounted_tree(host: Host) -> None:
    assert host.check_output(f"{PYTHON} -c 'import labfleet; print(labfleet.WHERE)'") == "the mounted tree"


def test_an_edit_shows_at_once(host: Host) -> None:
    host.check_output("echo \"WHERE = 'edited'\" > /srv/tree/src/labfleet/__init__.py")
    assert host.check_output(f"{PYTHON} -c 'import labfleet; print(labfleet.WHERE)'") == "edited"


def test_dependencies_come_from_the_release(host: Host) -> None:
    where = host.check_output(f"{PYTHON} -c 'import celery; print(celery.__file__)'")
    assert where.startswith("/srv/labfleet/releases/") or where.startswith("/srv/labfleet/current/")


def test_the_command_is_there(host: Host) -> None:
    assert host.file("/srv/labfleet/current/bin/labfleet").exists


def test_nothing_in_the_usual_place(host: Host) -> None:
    assert not host.file("/opt/labfleet").exists
