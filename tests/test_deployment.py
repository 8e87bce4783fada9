"""The Docker files agree with the settings and with each other; whether they run, only Docker can say."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings
from django.urls import reverse

ROOT: Path = settings.BASE_DIR
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
NGINX = re.sub(r"#.*", "", (ROOT / "nginx.conf").read_text(encoding="utf-8"))
DOCUMENTED = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.M))
SECRETS = ["SECRET_KEY", "DB_PASSWORD", "REDIS_PASSWORD", "FLOWER_PASSWORD"]
LOCATION = re.compile(r"^ {8}location (?:(=|~) )?(\S+) \{\n(.*?)^ {8}\}", re.M | re.S)


def seconds(duration: str) -> int:
    return int(duration[:-1]) * {"s": 1, "m": 60}[duration[-1]]


def celery_commands() -> dict[str, str]:
    """What each service that runs Celery is started with."""
    commands = {name: str(service.get("command", "")) for name, service in SERVICES.items()}
    return {name: command for name, command in commands.items() if command.startswith("celery ")}


def consumers(queue: str) -> list[str]:
    return [name for name, command in celery_commands().items() if f" -Q {queue} " in command]


def block_for(path: str) -> str:
    """What nginx does with a path.

    The exact location, else the first expression that matches, else the longest prefix:
    https://nginx.org/en/docs/http/ngx_http_core_module.html#location
    """
    locations = LOCATION.findall(NGINX)
    exact = [block for kind, name, block in locations if kind == "=" and name == path]
    matching = [block for kind, name, block in locations if kind == "~" and re.search(name, path)]
    prefixes = [(name, block) for kind, name, block in locations if not kind and path.startswith(name)]
    return str((exact + matching + [max(prefixes, key=lambda prefix: len(prefix[0]))[1]])[0])


def settings_in(block: str) -> dict[str, str]:
    """What each line of a `geo` or `map` says; a key in quotation marks keeps them."""
    return dict(re.findall(r'^\s*(".*?"|\S+)\s+(\S+);', block, re.M))


class TestVariables:
    def test_are_all_explained_in_the_example(self) -> None:
        assert set(re.findall(r"\$\{([A-Z_]+)", COMPOSE)) - DOCUMENTED == set()

    def test_of_the_programs_are_names_that_the_settings_have(self) -> None:
        assert SERVICES["web"]["environment"].keys() - DOCUMENTED == set()

    @pytest.mark.parametrize("name", SECRETS)
    def test_that_are_secrets_are_demanded_wherever_they_are_used(self, name: str) -> None:
        uses = re.findall(r"\$\{" + name + r"[^}]*\}", COMPOSE)
        assert set(uses) == {f"${{{name}:?{name} is missing in .env}}"}


class TestServices:
    def test_consume_every_queue_the_senders_four_at_a_time(self) -> None:
        counts = {queue.name: len(consumers(queue.name)) for queue in settings.CELERY_TASK_QUEUES}
        assert counts == {"scheduler": 1, "senders": 4, "transactional": 1, "imports": 1}

    def test_consume_no_queue_that_the_settings_do_not_have(self) -> None:
        consumed = set(re.findall(r" -Q (\S+)", " ".join(celery_commands().values())))
        assert consumed == {queue.name for queue in settings.CELERY_TASK_QUEUES}

    def test_have_names_of_their_own_where_celery_answers_to_them(self) -> None:
        nodes = [name for name in celery_commands() if name != "flower"]
        assert [SERVICES[name].get("hostname") for name in nodes] == nodes

    def test_publish_only_nginx(self) -> None:
        assert [name for name, service in SERVICES.items() if "ports" in service] == ["nginx"]

    def test_share_uploads_between_web_and_imports(self) -> None:
        media = f"media:{SERVICES['web']['environment']['MEDIA_ROOT']}"
        assert [name for name, service in SERVICES.items() if media in service.get("volumes", [])] == [
            "web",
            "worker-imports",
        ]

    def test_let_a_sender_finish_its_batch(self) -> None:
        assert (
            min(seconds(SERVICES[name]["stop_grace_period"]) for name in consumers("senders"))
            >= settings.LEASE_SECONDS
        )

    def test_keep_the_cache_and_the_queues_in_two_databases(self) -> None:
        environment = SERVICES["web"]["environment"]
        assert (
            environment["REDIS_URL"].rpartition("/")[2] != environment["CELERY_BROKER_URL"].rpartition("/")[2]
        )


class TestNginx:
    @pytest.mark.parametrize(
        "path", ["/flower/metrics", "/flower/healthcheck", "/flower/metrics/", "/metrics"]
    )
    def test_hides_what_asks_for_no_password(self, path: str) -> None:
        assert block_for(path).split() == ["return", "404;"]

    @pytest.mark.parametrize(
        ("path", "service"),
        [
            ("/", "$web"),
            ("/admin/", "$web"),
            ("/api/v1/campaigns/1/status/", "$web"),
            ("/flower/", "$flower"),
            ("/flower/api/workers", "$flower"),
        ],
    )
    def test_passes_everything_else_on(self, path: str, service: str) -> None:
        assert block_for(path).split() == ["proxy_pass", f"{service};"]

    @pytest.mark.parametrize("name", ["importjob-list", "admin:import_recipients"])
    def test_takes_files_as_large_as_an_import_may_be(self, name: str) -> None:
        block = block_for(reverse(name))
        limit = re.search(r"client_max_body_size (\d+)m;", block)
        assert limit
        assert int(limit[1]) * 1024 * 1024 > settings.IMPORT_MAX_BYTES
        assert "proxy_pass $web;" in block

    def test_believes_a_proxys_word_on_https_from_the_networks_that_name_its_clients(self) -> None:
        addresses = re.findall(r"set_real_ip_from (\S+);", NGINX)
        (networks,) = re.findall(r"geo \$realip_remote_addr \$trusted \{(.*?)\}", NGINX, re.S)
        assert addresses
        assert settings_in(networks) == {"default": "0"} | dict.fromkeys(addresses, "1")

    def test_believes_https_from_nobody_else(self) -> None:
        (schemes,) = re.findall(
            r'map "\$trusted \$http_x_forwarded_proto" \$public_scheme \{(.*?)\}', NGINX, re.S
        )
        assert settings_in(schemes) == {"default": "$scheme", '"1 https"': "https"}
        assert re.findall(r"X-Forwarded-Proto\s+(\S+);", NGINX) == ["$public_scheme"]
        assert NGINX.count("$http_x_forwarded_proto") == 1

    def test_passes_on_to_services_that_there_are(self) -> None:
        hosts = re.findall(r"set \$\w+ +http://([\w-]+):\d+;", NGINX)
        assert hosts == ["web", "flower"]
        assert SERVICES.keys() >= set(hosts)


class TestImage:
    def test_runs_as_somebody_without_rights(self) -> None:
        users = re.findall(r"^USER (\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.M)
        assert users == ["mailer"]

    @pytest.mark.parametrize("name", [".env*", ".git", ".local", ".venv", "media"])
    def test_leaves_secrets_and_data_out(self, name: str) -> None:
        assert name in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
