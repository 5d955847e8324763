"""How the pages are built: `make docs`, warnings are errors."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "mdive"
author = "The mdive developers"
project_copyright = "The mdive developers, Apache-2.0"
version = release = version_of("mdive")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "readable"]
exclude_patterns = ["_build", "adr/README.md"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
default_role = "code"

myst_enable_extensions = ["deflist", "colon_fence"]
myst_heading_anchors = 3

# Types stand with each parameter in words; a signature of names can be read at a glance.
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_rtype = False
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_title = f"mdive {release}"
html_static_path = ["_static"]
html_css_files = ["mdive.css"]
html_show_sourcelink = False
html_copy_source = False
# Guides are one page each; only the reference and the decisions have pages to navigate between.
html_sidebars = {"api/*": ["sidebar-nav-bs"], "adr/*": ["sidebar-nav-bs"], "[a-z]*": []}
html_theme_options = {
    "header_links_before_dropdown": 8,
    "navbar_persistent": ["search-button"],
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
}
