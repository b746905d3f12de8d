"""nginx with the role's defaults: it runs, is strict, and listens nowhere."""

from testinfra.host import Host


def test_runs(host: Host) -> None:
    service = host.service("nginx")
    assert service.is_running
    assert service.is_enabled


def test_listens_nowhere(host: Host) -> None:
    assert host.check_output("ss -Hltnp") .count("nginx") == 0


def test_no_site_of_the_package(host: Host) -> None:
    assert host.check_output("find /etc/nginx/sites-enabled /etc/nginx/labfleet.d -mindepth 1") == ""


def test_configuration_as_nginx_reads_it(host: Host) -> None:
    read = host.check_output("nginx -T 2>/dev/null")
    assert "server_tokens off;" in read
    assert "ssl_protocols TLSv1.2 TLSv1.3;" in read
    assert "\nserver {" not in read


def test_files_belong_to_root(host: Host) -> None:
    for path, mode in (("/etc/nginx/nginx.conf", 0o644), ("/etc/nginx/labfleet.d", 0o755)):
        file = host.file(path)
        assert (file.user, file.group, file.mode) == ("root", "root", mode)
