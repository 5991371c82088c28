from support.configs import EXAMPLE, KEYS, read
from tollhouse.config.places import Places, path_of


def test_paths_are_written_as_people_read_them():
    assert path_of("auth", "keys", 0, "name") == "auth.keys[0].name"
    assert path_of("prices", "lab/gpt-4.1", "input") == 'prices."lab/gpt-4.1".input'
    assert path_of("models", 'a"b') == 'models."a\\"b"'


def test_a_later_problem_is_shown_at_its_value():
    places = read(EXAMPLE).places
    assert places.problem("models.fast", "No.") == "tollhouse.yaml:9:9: models.fast: No."
    assert places.problem("models.smart[1]", "No.") == "tollhouse.yaml:10:40: models.smart[1]: No."
    assert places.problem("providers.lab.base_url", "No.") == "tollhouse.yaml:7:44: providers.lab.base_url: No."


def test_a_path_that_the_file_lacks_is_shown_at_its_nearest_ancestor():
    places = read(EXAMPLE).places
    assert places.problem("providers.lab.proxy", "No.") == "tollhouse.yaml:7:3: providers.lab.proxy: No."
    assert places.problem("providers.lab.models[3].name", "No.").startswith("tollhouse.yaml:7:3: ")
    assert places.problem("nothing", "No.") == "tollhouse.yaml:1:1: nothing: No."
    assert Places("x.yaml").problem("a.b", "No.") == "x.yaml:1:1: a.b: No."


def test_each_value_says_where_it_came_from():
    places = read(EXAMPLE).places
    origins = {place.path: place.origin for place in places}
    assert origins["server.port"] == "tollhouse.yaml:1"
    assert origins["server.admin_host"] == "default"
    assert origins["auth.keys[0].key"] == "$TOLLHOUSE_KEY, tollhouse.yaml:3"
    assert origins["providers.openai.type"] == "default"


def test_a_key_taken_from_the_usual_variable_says_so():
    config = read("auth: {open: true}\nproviders: {groq: }\n", KEYS)
    place = config.places.get("providers.groq.api_key")
    assert place is not None
    assert place.origin == "$GROQ_API_KEY (default)"
