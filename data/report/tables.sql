-- Run in the folder of the release, with DuckDB. The queries of this page use these views.
{% for view, file in views.items() if view != "manifest" and (view != "combinations" or data.combinations) %}
create view {{ view }} as from '{{ file }}';
{% endfor %}
create view manifest as from read_json('manifest.json', maximum_object_size = 268435456);
create view released as from questions union all by name from hard_negatives;
create view judged as from released union all by name from controls;
create view lost as
  select distinct on (record ->> '$.id') record ->> '$.id' as id, record ->> '$.family' as family,
    record ->> '$.attribute' as attribute, record ->> '$.superdomain' as superdomain,
    record ->> '$.domain' as domain, record ->> '$.topic' as topic, record ->> '$.control' as control,
    record ->> '$.operator' as operator, record ->> '$.label' as label,
    cast(record ->> '$.round' as integer) as round, cast(record ->> '$.fitness' as double) as fitness
  from dropped
  where kind = 'question' and text <> '' and because_of is distinct from record ->> '$.id'
  order by record desc;
create view made as from judged union all by name from lost;
