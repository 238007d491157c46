"""What is in deploy/, as far as it can be checked without a container engine or a cluster."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from nextok_server.config import ENVIRONMENT_PREFIX, Config

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
RESOURCES = [file for file in KUBERNETES if file.name != "kustomization.yaml"]


def run(*command):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    program = shutil.which(command[0], path=path)
    result = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    return result.returncode, result.stdout + result.stderr


def documents(file):
    return list(yaml.safe_load_all(file.read_text(encoding="utf-8")))


def deployment():
    (found,) = documents(DEPLOY / "kubernetes" / "deployment.yaml")
    return found["spec"]["template"]["spec"]


def environment():
    (container,) = deployment()["containers"]
    return {entry["name"]: entry["value"] for entry in container["env"]}


def test_the_dockerfile_is_one_that_its_linter_has_nothing_to_say_about():
    assert run("hadolint", str(DEPLOY / "Dockerfile")) == (0, "")


def test_the_yaml_is_one_that_its_linter_has_nothing_to_say_about():
    assert run("yamllint", "--strict", "-c", str(DEPLOY / ".yamllint"), str(DEPLOY)) == (0, "")


@pytest.mark.parametrize("file", RESOURCES, ids=lambda file: file.stem)
def test_each_resource_is_valid_and_has_no_field_that_kubernetes_does_not_know(file):
    code, output = run("kubernetes-validate", "--strict", str(file))
    assert code == 0, output


def test_the_validator_refuses_a_field_that_kubernetes_does_not_know(tmp_path):
    wrong = tmp_path / "wrong.yaml"
    text = (DEPLOY / "kubernetes" / "deployment.yaml").read_text(encoding="utf-8")
    wrong.write_text(text.replace("replicas: 2", "replicas: 2\n  replica: 3"))
    assert run("kubernetes-validate", "--strict", str(wrong))[0] != 0


def test_the_kustomization_names_every_resource_there_is():
    (kustomization,) = documents(DEPLOY / "kubernetes" / "kustomization.yaml")
    assert sorted(kustomization["resources"]) == [file.name for file in RESOURCES]


def test_every_environment_variable_is_a_setting_of_the_server():
    compose = documents(DEPLOY / "compose.yaml")[0]["services"]["server"]["environment"]
    dockerfile = re.findall(r"\b(NEXTOK_\w+)=", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"))
    names = {*environment(), *compose, *dockerfile}
    assert names <= {ENVIRONMENT_PREFIX + name.upper() for name in Config.model_fields}


def test_the_servers_settings_in_the_cluster_are_ones_that_it_starts_with(monkeypatch):
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    values = {name.removeprefix("NEXTOK_").lower(): value for name, value in environment().items()}
    config = Config(artifact="/artifact", **values)
    assert not config.insecure


def test_the_ports_that_are_probed_and_named_are_those_that_the_server_listens_on():
    (container,) = deployment()["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    listens = {
        "grpc": "NEXTOK_LISTEN",
        "health": "NEXTOK_HEALTH_LISTEN",
        "metrics": "NEXTOK_METRICS_LISTEN",
    }
    for port, name in listens.items():
        assert environment()[name].endswith(f":{ports[port]}")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["grpc"]["port"] == ports["health"]


def test_a_pod_is_given_longer_than_its_streams_are():
    (container,) = deployment()["containers"]
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = int(environment()["NEXTOK_DRAIN_SECONDS"])
    assert deployment()["terminationGracePeriodSeconds"] > pause + drain


def test_containers_may_write_nowhere_and_are_nobody():
    (container,) = deployment()["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert deployment()["securityContext"]["runAsNonRoot"]
    assert "USER 65532" in (DEPLOY / "Dockerfile").read_text(encoding="utf-8")


def test_the_image_is_built_from_files_that_are_there_and_let_in():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE):
        *sources, _ = line.split()
        for source in sources:
            assert (ROOT / source).exists()
            assert f"!{source}" in ignored
