"""The static pages in a browser: wide and narrow, and no request to another host."""

import course_site
import lab
import notebook_tools as tools
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "site"
    course_site.build(folder)
    return folder


@pytest.mark.parametrize("width", [1280, 390])
def test_pages_fit_and_ask_no_other_host(browser, site, width):
    page, page_errors = lab.new_page(browser)
    page.set_viewport_size({"width": width, "height": 900})
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    for name in ["index", "search", *(path.stem for path in tools.notebook_paths())]:
        page.goto((site / f"{name}.html").as_uri())
        page.wait_for_load_state("load")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert page.locator("button.widget-button, .jupyter-widgets input").count() == 0, name
    assert requests
    assert not [url for url in requests if not url.startswith(("file:", "data:"))]
    assert page_errors == []
    page.close()
