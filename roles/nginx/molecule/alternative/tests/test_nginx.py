"""nginx with every variable moved off its default, and a site that another role has added."""

from testinfra.host import Host

ASK = "python3 -c 'import urllib.request as u; r = u.urlopen(\"http://127.0.0.1:8080/x?token=secret\"); print(r.read(), r.headers)'"


def test_site_answers_without_telling_its_version(host: Host) -> None:
    answer = host.check_output(ASK)
    assert "here" in answer
    assert "Server: nginx\n" in answer


def test_requests_are_not_logged(host: Host) -> None:
    host.run_test(ASK)
    assert "No entries" in host.check_output("journalctl --sync; journalctl -t nginx_access --no-pager")


def test_configuration_as_nginx_reads_it(host: Host) -> None:
    read = host.check_output("nginx -T 2>/dev/null")
    for line in (
        "worker_connections 256;",
        "keepalive_timeout 9s;",
        "client_body_timeout 7s;",
        "ssl_protocols TLSv1.3;",
        "access_log off;",
    ):
        assert line in read


def test_listens_where_the_site_says_and_nowhere_else(host: Host) -> None:
    listening = {line.split()[3] for line in host.check_output("ss -Hltnp").splitlines() if "nginx" in line}
    assert listening == {"127.0.0.1:8080"}
