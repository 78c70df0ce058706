//! JSON as Go prints it with `%v`, for the messages of upstream that hold such values.

use serde_json::Value;

/// `map[a:1 b:[x y]]`: keys in order, nothing quoted, `<nil>` for null.
pub fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_value).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.iter().collect();
            pairs.sort_unstable_by_key(|(key, _)| *key);
            let pairs = pairs
                .into_iter()
                .map(|(k, v)| format!("{k}:{}", go_value(v)));
            format!("map[{}]", pairs.collect::<Vec<_>>().join(" "))
        }
        scalar => scalar.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::go_value;
    use serde_json::json;

    #[test]
    fn maps_are_printed_in_order_and_without_quotes() {
        let value = json!({"b": [1, "x y", null], "a": {"k": true}, "c": 1.5, "d": {}});
        assert_eq!(
            go_value(&value),
            "map[a:map[k:true] b:[1 x y <nil>] c:1.5 d:map[]]"
        );
    }
}
