"""Exports of the estimators: doors to `eqprop_fast.export`, loaded when they are used."""


class ExportMixin:
    """Mixin of the estimators that can be exported; not for direct use."""

    def to_c(self, folder, dtype="float32", learn=False, name="eqnet", **options):
        """Write the fitted network as self-contained C for a small device: ``name.h``, ``name.c``.

        Parameters
        ----------
        folder : path
            Made if it is not there.
        dtype : {"float32", "int16", "int8"}
        learn : bool
            With functions that go on learning on the device.
        name : str
            A C identifier: prefix of files and symbols.
        **options
            Of `eqprop_fast.export.to_c`: `learning_rate`, `layout`, the formats of integers.

        Returns
        -------
        list of Path
            Header and source first.
        """
        from ..export import to_c

        return to_c(self, folder, dtype, learn, name, **options)

    def size_report(self, **options):
        """What the network costs on microcontrollers: `eqprop_fast.export.targets.size_report`.

        Parameters
        ----------
        **options
            `dtypes`, `learn`, `targets`.

        Returns
        -------
        list of dict
        """
        from ..export.targets import size_report

        return size_report(self, **options)
