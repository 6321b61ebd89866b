"""Pages for browsers: built from ``web/`` into the wheel, served as files, made of the public API alone."""

from strata.ui.files import PageFile, Pages, installed_pages, load_pages

__all__ = ["PageFile", "Pages", "installed_pages", "load_pages"]
