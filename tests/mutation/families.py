"""Which files belong to a family, and which tests are there to hold them (quick ones first)."""

from dataclasses import dataclass

RANDOM = "tests/test_random_options.py"
CURVED = ("sigmoid", "shifted_sigmoid", "tanh")  # activations with a second derivative


@dataclass(frozen=True)
class Family:
    """`sources` by kind (globs), `tests` of all kinds but Numba, which have `numba`: there Python
    interprets what Numba would compile. `drawn`: which of random_calls are this family's.
    """

    sources: dict
    tests: list
    numba: tuple = (RANDOM,)
    drawn: str = ""


def _c(*names):
    return [f"csrc/{name}" for name in names]


def _reference(*names):
    return [f"kernels/reference/{name}.py" for name in names]


def _jit(*names):
    return [f"kernels/jit/{name}.py" for name in names]


def _tests_of(file, *names):
    """Those of a file's tests that take seconds where Python interprets the kernels."""
    return tuple(f"tests/{file}.py::test_{name}" for name in names)


# Python above the kernels is tried over C alone
BACKENDS = {"c": "c numpy", "numpy": "c numpy", "numba": "numba numpy"}

FAMILIES = {
    "layered": Family(
        {
            "c": _c(
                "layered/[lpn]*.[ch]",
                "layered/input.c",
                "layered/train.c",
                "layered/rules.h",
                "layered/finish.h",
                "core/gemm.h",
                "core/activation.h",
                "core/simd.h",
            ),
            "numpy": _reference("layered", "activations", "rules"),
            # not narrow.py and vectors.py: LLVM's text, which only compiled code runs
            "numba": _jit(
                "layered",
                "relax",
                "inputs",
                "activations",
                "preparation",
                "packing",
                "products",
                "tiles",
            ),
        },
        [
            "tests/test_layered_edges.py",
            RANDOM,
            "tests/test_activations.py",
            "tests/test_layered_kernels.py",
            "tests/test_layered_rules.py",
            "tests/test_rules.py",
            "tests/test_inputs.py",
            "tests/test_over_relaxation.py",
            "tests/test_free_start.py",
            "tests/test_carry_over.py",
        ],
        numba=("tests/test_activations.py", RANDOM, "tests/test_layered_edges.py"),
        drawn="layered",
    ),
    "continual": Family(
        {"c": _c("layered/continual*.c"), "numpy": _reference("rules"), "numba": _jit("continual")},
        [
            "tests/test_layered_edges.py",
            RANDOM,
            "tests/test_rules.py",
            "tests/test_layered_rules.py",
            "tests/test_carry_over.py",
            "tests/test_feedback_angle.py",
            "tests/test_layered_gradients.py",
            "tests/test_graph_kernels.py",
        ],
        numba=(
            *_tests_of(
                "test_layered_edges",
                "a_batch_without_weight_has_no_second_phase",
                "a_vector_field_learns_no_more_from_a_sample_at_rest",
                "a_vector_field_over_no_steps_moves_nothing",
            ),
            RANDOM,
        ),
        drawn="layered",
    ),
    "gradients": Family(
        {
            "c": _c("layered/gradients.c", "layered/implicit.h"),
            "numpy": _reference("gradients"),
            "numba": _jit("gradients", "gradient_training", "implicit"),
            "python": ["eqprop_fast/gradients/*.py"],
        },
        ["tests/test_layered_gradients.py", RANDOM, "tests/test_gradients.py"],
        numba=(
            *_tests_of(
                "test_layered_gradients",
                "a_tolerance_of_zero_ends_where_nothing_comes_back",
                "refusals",
                "singular_and_divergent",
                "small_pivots_are_not_eliminated",
                *(f"activations[plain-{name}-float32-numba]" for name in CURVED),
            ),
            RANDOM,
        ),
        drawn="layered",
    ),
    "crossbar": Family(
        {
            "c": _c("crossbar/*.[ch]"),
            "numpy": _reference("crossbar"),
            "numba": _jit("crossbar", "crossbar_driver"),
            "python": ["kernels/prepare/crossbar.py", "kernels/native/crossbar.py"],
        },
        ["tests/test_crossbar.py", "tests/test_resistive.py", RANDOM],
        numba=(
            *_tests_of(
                "test_crossbar",
                "carry_over_after_a_batch_of_another_size",
                "conductances_whose_sum_overflows_move_nothing",
                "errors",
                "isolated_node_stays_at_zero",
                "momentum_follows_the_gradients_of_plain_steps",
                "without_carry_every_batch_starts_from_zero",
            ),
            RANDOM,
        ),
        drawn="crossbar",
    ),
    "nodal": Family(
        {
            "c": _c("nodal/nodal.c", "nodal/d*.h", "nodal/head.h", "nodal/sparse.h"),
            "numpy": _reference("nodal", "nodal_head"),
            "numba": _jit("nodal", "nodal_head", "nodal_lu"),
            "python": ["kernels/prepare/nodal.py", "kernels/native/nodal.py"],
        },
        [
            "tests/test_nodal.py",
            "tests/test_nodal_update.py",
            RANDOM,
            "tests/test_circuits_exactness.py",
            "tests/test_circuits_operating_point.py",
        ],
        numba=("tests/test_nodal.py", "tests/test_nodal_update.py", RANDOM),
        drawn="nodal",
    ),
    "graph": Family(
        {
            "c": _c("graph/*.[ch]"),
            "numpy": _reference("graph", "connections", "conv", "pooling"),
            "numba": _jit("graph*"),
            "python": [
                "kernels/graph_spec.py",
                "kernels/prepare/graph.py",
                "kernels/native/graph.py",
            ],
            "estimators": [
                "eqprop_fast/estimators/_graph.py",
                "eqprop_fast/estimators/[cg]*.py",
                "eqprop_fast/networks/graph*.py",
                "eqprop_fast/training/augment.py",
            ],
        },
        [
            "tests/test_graph_kernels.py",
            "tests/test_graph.py",
            "tests/test_graph_network.py",
            "tests/test_graph_estimators.py",
            "tests/test_graph_recognition.py",
        ],
        numba=(
            *_tests_of(
                "test_graph_kernels",
                "a_chain_is_the_layered_network",
                "a_diverged_batch_leaves_what_the_batches_before_have_made",
                "a_row_that_is_twice_in_a_batch",
                "a_sample_at_rest_is_left_alone",
                "dense_to_and_from_maps",
                "divergence_is_named",
                "divergence_within_a_batch",
                "over_relaxation",
                "particles_of_a_batch_that_diverges",
                "what_is_no_number_passes_the_pool",
            ),
            RANDOM,
            *_tests_of("test_graph_kernels", "weights_of_the_way_back", "widths_about_the_vectors"),
        ),
        drawn="graph",
    ),
    "boltzmann": Family(
        {
            "c": _c("boltzmann/*.[ch]"),
            "numpy": _reference("boltzmann", "threefry"),
            "numba": _jit("boltzmann*", "threefry"),
            "python": [
                "kernels/boltzmann_spec.py",
                "kernels/prepare/boltzmann.py",
                "kernels/native/boltzmann.py",
            ],
            "estimators": ["eqprop_fast/generative/*.py"],
        },
        ["tests/test_boltzmann_kernels.py", "tests/test_generative.py"],
        numba=(
            *_tests_of(
                "test_boltzmann_kernels",
                "a_plan_without_a_tolerance_makes_all_mean_field_sweeps",
                "a_row_does_not_depend_on_the_rows_beside_it",
                "fields_that_are_no_numbers_are_named",
                "rows_at_rest_stop_and_no_sweep_is_none",
                "weights_that_blow_up_are_named_and_undone",
            ),
            RANDOM,
        ),
        drawn="boltzmann",
    ),
    "checks": Family(
        {"python": ["kernels/checks/*.py"]},
        [
            "tests/test_checks.py",
            "tests/test_graph.py",
            "tests/test_refused_calls.py",
            "tests/test_boltzmann_kernels.py",
            "tests/test_graph_kernels.py",
        ],
    ),
    "update": Family(
        {
            "c": _c("core/update.h", "nodal/update.h"),
            "numpy": _reference("update", "nodal_update"),
            "numba": _jit("update", "nodal_update"),
        },
        [
            "tests/test_nodal_update.py",
            "tests/test_layered_kernels.py",
            RANDOM,
            "tests/test_rules.py",
        ],
        numba=("tests/test_nodal_update.py", RANDOM),
    ),
    "estimators": Family(
        {
            "driver": ["eqprop_fast/training/[!a]*.py", "eqprop_fast/_archive.py"],
            "networks": ["eqprop_fast/networks/[!g]*.py"],
            "python": ["eqprop_fast/estimators/_[!g]*.py", "eqprop_fast/estimators/[lr]*.py"],
        },
        [
            "tests/test_driver.py",
            "tests/test_energy.py",
            "tests/test_small_calls.py",
            "tests/test_fit_ends.py",
            "tests/test_parameter_values.py",
            "tests/test_resistive_spice.py",
            "tests/test_files.py",
            "tests/test_parts.py",
            "tests/test_feedforward_start.py",
            "tests/test_feedback_angle.py",
            "tests/test_recognition.py",
            "tests/test_reconstruction.py",
            "tests/test_persistence.py",
            "tests/test_estimators.py",
            "tests/test_resistive_devices.py",
            "tests/test_resistive.py",
            "tests/test_interrupts.py",
        ],
    ),
    "circuits": Family(
        {
            "python": [
                f"eqprop_fast/circuits/{name}.py"
                for name in (
                    "assembly",
                    "builders",
                    "complementarity",
                    "devices",
                    "elements",
                    "factor",
                    "learning",
                    "netlist",
                    "operating_point",
                    "polish",
                    "solver",
                )
            ],
            "spice": ["eqprop_fast/circuits/spice_*.py"],
        },
        [
            "tests/test_circuits_netlist.py",
            "tests/test_circuits_spice.py",
            "tests/test_circuits_spice_verdicts.py",
            "tests/test_circuits_exactness.py",
            "tests/test_circuits_operating_point.py",
            "tests/test_circuits_learning.py",
            "tests/test_circuits_limits.py",
            "tests/test_circuits_nudging.py",
            "tests/test_circuits_ideal.py",
            "tests/test_resistive_devices.py",
        ],
    ),
}
