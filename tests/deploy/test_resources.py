"""What Ray's own autoscaler reads from the groups is enough for what each run's configuration asks."""

from __future__ import annotations

import pytest
import yaml

from orchestrator.config import Config, load
from tests.deploy.manifests import Object, applied_folders, cluster_spec, of_kind, quantity, render

RUNS = [folder for folder in applied_folders() if not folder.endswith("platform")]


def groups(ray: Object) -> dict[str, Object]:
    """Node types as Ray derives them from the custom resource: resources, and bounds of the number of nodes."""
    module = pytest.importorskip("ray.autoscaler._private.kuberay.autoscaling_config")
    resource = {"metadata": {"namespace": "t5", "name": "x"}, "spec": cluster_spec(ray)}
    types: dict[str, Object] = module._derive_autoscaling_config_from_ray_cr(resource)["available_node_types"]
    return types


def configuration(folder: str, objects: list[Object], tmp_path: object) -> Config | None:
    """The run's configuration from the mounted ConfigMap, None for jobs that have none."""
    for one in of_kind(objects, "ConfigMap"):
        if "run.yaml" in one["data"]:
            path = tmp_path / "run.yaml"  # type: ignore[operator]
            path.write_text(one["data"]["run.yaml"])
            return load([str(path)], environment={})
    return None


def demand(config: Config, workers: int) -> tuple[float, int]:
    """CPUs and train workers of a run with `workers` workers: theirs and those of the readers."""
    readers = config.readers.count or max(1, config.worker_range[1] // 4)
    return workers * config.parallel.cpus + readers * config.readers.cpus, workers


@pytest.mark.parametrize("folder", RUNS)
def test_the_pool_is_the_size_of_the_run(folder: str, tmp_path: object) -> None:
    objects = render(folder)
    (ray,) = of_kind(objects, "RayJob", "RayCluster")
    types = groups(ray)
    head = types.pop("headgroup")
    assert head["resources"]["CPU"] == 0
    config = configuration(folder, objects, tmp_path)
    if config is None:
        return
    low, high = config.worker_range
    for bound, workers in (("min_workers", low), ("max_workers", high)):
        nodes = [(one["resources"], one[bound]) for one in types.values()]
        cpus = sum(resources["CPU"] * count for resources, count in nodes)
        gpus = sum(resources.get("GPU", 0) * count for resources, count in nodes)
        wanted_cpus, wanted_workers = demand(config, workers)
        assert cpus >= wanted_cpus, f"{bound}: {cpus} CPUs for {wanted_cpus}"
        if gpus:
            assert gpus >= wanted_workers, f"{bound}: {gpus} GPUs for {wanted_workers}"
    if any("GPU" in one["resources"] for one in types.values()) and folder != "overlays/gpu-pool/experiment":
        # Nothing is reserved that the run cannot use.
        assert sum(one["resources"]["GPU"] * one["max_workers"] for one in types.values()) == high


@pytest.mark.parametrize("folder", RUNS)
def test_a_tensor_parallel_group_fits_into_one_node(folder: str, tmp_path: object) -> None:
    objects = render(folder)
    config = configuration(folder, objects, tmp_path)
    if config is None or config.parallel.tensor == 1:
        return
    (ray,) = of_kind(objects, "RayJob")
    types = groups(ray)
    for name, one in types.items():
        if name != "headgroup":
            assert one["resources"]["GPU"] % config.parallel.tensor == 0


@pytest.mark.parametrize("folder", RUNS)
def test_elastic_ranges_have_an_autoscaler(folder: str, tmp_path: object) -> None:
    objects = render(folder)
    config = configuration(folder, objects, tmp_path)
    (ray,) = of_kind(objects, "RayJob", "RayCluster")
    if config is not None and config.worker_range[0] < config.worker_range[1]:
        assert cluster_spec(ray)["enableInTreeAutoscaling"] is True


def test_the_queue_covers_every_resource_that_its_jobs_ask_for() -> None:
    (queue,) = of_kind(render("overlays/gpu-pool/platform"), "ClusterQueue")
    covered: dict[str, float] = {}
    for group in queue["spec"]["resourceGroups"]:
        assert group["coveredResources"] == [one["name"] for one in group["flavors"][0]["resources"]]
        covered |= {one["name"]: quantity(one["nominalQuota"]) for one in group["flavors"][0]["resources"]}
    for folder in RUNS:
        for ray in of_kind(render(folder), "RayJob"):
            if ray["metadata"]["labels"].get("kueue.x-k8s.io/queue-name") != queue["metadata"]["name"]:
                continue
            wanted: dict[str, float] = {}
            spec = cluster_spec(ray)
            workers = [(one["replicas"], one) for one in spec["workerGroupSpecs"]]
            for count, group in [(1, spec["headGroupSpec"]), *workers]:
                requests = group["template"]["spec"]["containers"][0]["resources"]["requests"]
                for name, value in requests.items():
                    wanted[name] = wanted.get(name, 0) + count * quantity(value)
            for name, value in wanted.items():
                assert covered.get(name, 0) >= value, f"{folder}: {name} {value:g}"


def test_run_names_are_unique_and_storage_is_s3() -> None:
    seen: dict[str, str] = {}
    for folder in RUNS:
        for one in of_kind(render(folder), "ConfigMap"):
            if "run.yaml" in one["data"]:
                values = yaml.safe_load(one["data"]["run.yaml"])
                assert values["storage"].startswith("s3://"), folder
                # A plan's runs are named by the plan.
                name = values.get("run") or yaml.safe_load(one["data"]["plan.yaml"])["name"]
                assert seen.setdefault(name, folder) == folder
